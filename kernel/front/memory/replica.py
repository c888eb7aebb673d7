"""The replica: the front's copy of the records, from which lists and status are answered whatever a worker does.

It is loaded from the supervisor at start. A record changes here only after the supervisor has it on disk: `commit`
sends, then applies. A record that another task may change at the same time (the report of an exit arrives while a start
ends) is changed by `change`, which holds the record's own lock from reading it to having committed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from kernel.contracts import supervisor
from kernel.contracts.definition import Method, Nothing
from kernel.contracts.network import Readiness
from kernel.contracts.records import (
    Container,
    ContainerState,
    Exit,
    Image,
    Intent,
    IntentKind,
    Sandbox,
    SandboxState,
)
from kernel.contracts.runtime import Platform
from kernel.contracts.supervisor import Commit, Snapshot
from kernel.errors import InvalidInput, NotFound
from kernel.front.memory.container_waiters import ContainerWaiters
from kernel.front.memory.image_index import ImageIndex
from kernel.front.memory.record_changes import Change, changes_of
from kernel.front.requests import keys
from kernel.front.requests.keys import ContainerKey, SandboxKey
from kernel.host.aio import Deadline, KeyedLock
from kernel.ids import ContainerId, ImageId, SandboxId

_Record = TypeVar("_Record", Sandbox, Container)


def _drop(changes: Sequence[Change]) -> None:
    """Do nothing: the value of `Replica.on_change` until it is set."""


class Committer(Protocol):
    """The part of the supervisor's client that the replica uses."""

    async def call(
        self, method: Method[Commit, Nothing], request: Commit, *, deadline: Deadline | None = None
    ) -> Nothing:
        """Send one transaction and return once it is on disk."""


class Replica:
    """All records. Its mappings are read by everyone and written by `commit` and `load` only."""

    def __init__(self, supervisor_client: Committer) -> None:
        self._supervisor = supervisor_client
        self._locks: KeyedLock[str] = KeyedLock()
        self._members: dict[SandboxId, dict[ContainerId, None]] = {}
        """The containers of each sandbox, oldest first: the keys of a dict are an ordered set."""
        self.on_change: Callable[[Sequence[Change]], None] = _drop
        """Called with the changes of each commit that was applied."""
        self.sandboxes: dict[SandboxId, Sandbox] = {}
        self.containers: dict[ContainerId, Container] = {}
        self.image_index = ImageIndex()
        self.images = self.image_index.by_id
        self.intents: dict[str, Intent] = {}
        self.exits: dict[ContainerId, Exit] = {}
        self.damaged = ""
        """See `Snapshot.damaged`."""
        self._waiters = ContainerWaiters(self.containers)
        # No records, but the state of this moment; `kernel.front.watches` keeps it current.
        self.network = Readiness(
            ready=False, reason="NetworkNotAsked", message="the network worker has not answered yet"
        )
        self.down: dict[str, str] = {}
        """Workers that are not ready, each with the reason."""
        self.platform: Platform | None = None
        """The properties of the runtime on this host; None until it has answered."""
        self.doomed: set[str] = set()
        """Ids of sandboxes and containers that could not be made and whose traces are still to be removed."""

    def load(self, snapshot: Snapshot) -> None:
        """Take over the records that the supervisor has on disk."""
        self._apply(
            Commit(
                put_sandboxes=snapshot.sandboxes,
                put_containers=snapshot.containers,
                put_images=snapshot.images,
                begin=snapshot.intents,
            )
        )
        self.exits = {end.container_id: end for end in snapshot.exits}
        self.damaged = snapshot.damaged

    def snapshot(self) -> Snapshot:
        """Return all records as they are now."""
        return Snapshot(
            sandboxes=tuple(self.sandboxes.values()),
            containers=tuple(self.containers.values()),
            images=tuple(self.images.values()),
            intents=tuple(self.intents.values()),
            exits=tuple(self.exits.values()),
            damaged=self.damaged,
        )

    async def commit(self, commit: Commit, deadline: Deadline) -> None:
        """Have the supervisor write one transaction, then apply it here."""
        await self._supervisor.call(supervisor.COMMIT, commit, deadline=deadline)
        changes = changes_of(commit, self.sandboxes, self.containers)
        self._apply(commit)
        self.on_change(changes)

    async def change(self, key: str, plan: Callable[[], Commit | None], deadline: Deadline) -> None:
        """Commit the result of `plan`, if there is one. No other task changes the record with this id meanwhile."""
        async with self._locks.hold(key):
            commit = plan()
            if commit is not None:
                await self.commit(commit, deadline)

    async def wait_container(
        self, container_id: ContainerId, until: Callable[[Container], bool], deadline: Deadline
    ) -> None:
        """Wait until `until` accepts a container's record, or the record is gone."""
        await self._waiters.wait(container_id, until, deadline)

    # Looking up.

    def sandbox(self, text: str) -> Sandbox:
        """Return a listed sandbox by the beginning of its id. Raise NotFound, or InvalidInput if several begin so."""
        return _by_id(self.listed_sandboxes(), text, "pod_sandbox_id", "pod sandbox")

    def container(self, text: str) -> Container:
        """Return a listed container by the beginning of its id. Raise NotFound, or InvalidInput if several begin so."""
        return _by_id(self.listed_containers(), text, "container_id", "container")

    def image(self, name: str) -> Image | None:
        """Return an image by id, beginning of an id, tag or digest (`ImageIndex.find`)."""
        return self.image_index.find(name)

    def listed_sandboxes(self) -> Iterator[Sandbox]:
        """Return all sandboxes but those being made."""
        return (record for record in self.sandboxes.values() if record.state is not SandboxState.CREATING)

    def listed_containers(self) -> Iterator[Container]:
        """Return all containers but those being made."""
        return (record for record in self.containers.values() if record.state is not ContainerState.CREATING)

    def containers_of(self, sandbox_id: SandboxId) -> list[Container]:
        """Return a sandbox's containers, oldest first, those being made too."""
        return [self.containers[one] for one in self._members.get(sandbox_id, ())]

    def sandbox_named(self, key: SandboxKey) -> Sandbox | None:
        """Return the sandbox that a repeated RunPodSandbox stands for: made or being made, not stopped nor being
        removed."""
        for record in self.sandboxes.values():
            if (
                keys.of_sandbox(record) == key
                and record.state is not SandboxState.NOT_READY
                and not self.leaving(record.id)
            ):
                return record
        return None

    def container_named(self, key: ContainerKey) -> Container | None:
        """Return the container that a repeated CreateContainer stands for: not ended and not being removed."""
        for record in self.containers_of(key[0]):
            ended = record.state is ContainerState.EXITED
            if keys.of_container(record) == key and not ended and not self.leaving(record.id):
                return record
        return None

    def leaving(self, id_: str) -> bool:
        """Return whether this sandbox is being stopped or removed, or this container is being removed."""
        intent = self.intents.get(id_)
        return id_ in self.doomed or (intent is not None and intent.kind in _LEAVING)

    def uses(self, image_id: ImageId) -> list[Container]:
        """Return the containers that are made from an image, or have it mounted as a volume."""
        return [record for record in self.containers.values() if image_id in (record.image_id, *record.volume_images)]

    # Applying.

    def _apply(self, commit: Commit) -> None:
        for sandbox in commit.put_sandboxes:
            self.sandboxes[sandbox.id] = sandbox
        for container in commit.put_containers:
            self.containers[container.id] = container
            self._members.setdefault(container.sandbox_id, {})[container.id] = None
        for image in commit.put_images:
            self.image_index.put(image)
        for intent in commit.begin:
            self.intents[intent.id] = intent
        self.doomed.difference_update(commit.delete_sandboxes, commit.delete_containers)
        for gone in commit.delete_containers:
            record = self.containers.pop(gone, None)
            self.exits.pop(gone, None)
            if record is not None:
                self._members.get(record.sandbox_id, {}).pop(gone, None)
        for sandbox_gone in commit.delete_sandboxes:
            self.sandboxes.pop(sandbox_gone, None)
            self._members.pop(sandbox_gone, None)
        for image_gone in commit.delete_images:
            self.image_index.remove(image_gone)
        for ended in commit.end:
            self.intents.pop(ended, None)
        self._waiters.wake((*(container.id for container in commit.put_containers), *commit.delete_containers))


_LEAVING = frozenset({IntentKind.STOP_SANDBOX, IntentKind.REMOVE_SANDBOX, IntentKind.REMOVE_CONTAINER})


def _by_id(
    listed: Iterator[_Record],
    text: str,
    field: str,
    what: str,
) -> _Record:
    """Return the record whose id is `text` or begins with it. `field` and `what` are for the error's message."""
    if not text:
        raise InvalidInput(f"{field}: is empty")
    matches = []
    for record in listed:
        if record.id == text:
            return record
        if record.id.startswith(text):
            matches.append(record)
    if len(matches) > 1:
        raise InvalidInput(f"{field}: {text!r} is the beginning of more than one {what}'s id")
    if not matches:
        raise NotFound(f"{what} {text!r} does not exist")
    return matches[0]
