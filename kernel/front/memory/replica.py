"""The records in memory: what lists and status are answered from, whatever a worker does.

Loaded from the supervisor at start. A record changes here only after the supervisor has it on disk: `commit` sends,
then applies. Whoever changes a record that somebody else may change meanwhile (an exit is heard of while a start
ends) does it through `change`, which holds the record's own lock from reading it to having committed it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from kernel.contracts import supervisor
from kernel.contracts.contract import Method, Nothing
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
from kernel.errors import DeadlineExceeded, InvalidInput, NotFound
from kernel.formats import reference
from kernel.front.requests import keys
from kernel.front.requests.keys import ContainerKey, SandboxKey
from kernel.host.aio import Deadline, KeyedLock
from kernel.ids import ContainerId, ImageId, SandboxId

_IMAGE_ID = re.compile(r"(?:sha256:)?([0-9a-f]{3,64})", re.ASCII)
_HEX_DIGITS = 64
_Record = TypeVar("_Record", Sandbox, Container)


@dataclass(frozen=True, slots=True)
class SandboxChange:
    """A record before and after a commit; None where there was, or is, none."""

    before: Sandbox | None
    after: Sandbox | None


@dataclass(frozen=True, slots=True)
class ContainerChange:
    """As above."""

    before: Container | None
    after: Container | None


Change = SandboxChange | ContainerChange


def _nobody(changes: Sequence[Change]) -> None:
    """Nobody listens."""


class Committer(Protocol):
    """The supervisor's client, as far as the replica uses it."""

    async def call(
        self, method: Method[Commit, Nothing], request: Commit, *, deadline: Deadline | None = None
    ) -> Nothing:
        """Send one transaction."""


class Replica:
    """All that is remembered. Its mappings are read by everyone and written by `commit` and `load` only."""

    def __init__(self, supervisor_client: Committer) -> None:
        self._supervisor = supervisor_client
        self._locks: KeyedLock[str] = KeyedLock()
        self._waiting: dict[ContainerId, set[asyncio.Future[None]]] = {}
        self._members: dict[SandboxId, dict[ContainerId, None]] = {}
        self._image_names: dict[str, ImageId] = {}
        self.expand: Callable[[str], Sequence[reference.Reference]] = lambda text: (reference.parse(text),)
        """What a reference may mean; InvalidInput where it is none."""
        self.on_change: Callable[[Sequence[Change]], None] = _nobody
        """Called with the changes of each commit that was applied."""
        self.sandboxes: dict[SandboxId, Sandbox] = {}
        self.containers: dict[ContainerId, Container] = {}
        self.images: dict[ImageId, Image] = {}
        self.intents: dict[str, Intent] = {}
        self.exits: dict[ContainerId, Exit] = {}
        self.damaged = ""
        # Facts of the moment, from the watches of kernel.front.recovery.
        self.network = Readiness(
            ready=False, reason="NetworkNotAsked", message="the network worker has not answered yet"
        )
        self.down: dict[str, str] = {}
        """Workers that are not ready, each with the reason."""
        self.platform: Platform | None = None
        self.doomed: set[str] = set()
        """Sandboxes and containers whose making failed and whose traces are still to be taken away."""

    def load(self, snapshot: Snapshot) -> None:
        """Begin with what the supervisor has on disk."""
        self._apply(
            Commit(
                put_sandboxes=snapshot.sandboxes,
                put_containers=snapshot.containers,
                put_images=snapshot.images,
                begin=snapshot.intents,
            )
        )
        self.exits = {end.container: end for end in snapshot.exits}
        self.damaged = snapshot.damaged

    def snapshot(self) -> Snapshot:
        """All that is remembered, as it is now."""
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
        changes = self._changes(commit)
        self._apply(commit)
        self.on_change(changes)

    async def change(self, key: str, plan: Callable[[], Commit | None], deadline: Deadline) -> None:
        """Commit what `plan` makes of the records as they are once nobody else changes the record with id `key`."""
        async with self._locks.hold(key):
            commit = plan()
            if commit is not None:
                await self.commit(commit, deadline)

    async def wait_container(
        self, container: ContainerId, until: Callable[[Container], bool], deadline: Deadline
    ) -> None:
        """Wait until a container's record says so, or is gone."""
        while (record := self.containers.get(container)) is not None and not until(record):
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting = self._waiting.setdefault(container, set())
            waiting.add(changed)
            try:
                async with asyncio.timeout(max(deadline.remaining(), 0)):
                    await changed
            except TimeoutError as error:
                raise DeadlineExceeded(f"container {container} is {record.state.value}: the deadline passed") from error
            finally:
                waiting.discard(changed)
                if not waiting:
                    self._waiting.pop(container, None)

    # Looking up.

    def sandbox(self, text: str) -> Sandbox:
        """A listed sandbox by id or unambiguous beginning of one; NotFound, InvalidInput."""
        return _by_id(self.sandboxes, self.listed_sandboxes(), text, "pod_sandbox_id", "pod sandbox")

    def container(self, text: str) -> Container:
        """A listed container by id or unambiguous beginning of one; NotFound, InvalidInput."""
        return _by_id(self.containers, self.listed_containers(), text, "container_id", "container")

    def image(self, name: str) -> Image | None:
        """An image by id, beginning of an id, tag or digest, in short or full form; InvalidInput where malformed."""
        found = _IMAGE_ID.fullmatch(name)
        prefix = f"sha256:{found.group(1)}" if found else ""
        if name in self._image_names:
            return self.images[self._image_names[name]]
        if not name.startswith("sha256:") and not (found and len(found.group(1)) == _HEX_DIGITS):
            for asked in self.expand(name):
                spelling = f"{asked.name}@{asked.digest}" if asked.digest else str(asked)
                if spelling in self._image_names:
                    return self.images[self._image_names[spelling]]
        elif not prefix:
            raise InvalidInput(f"image {name!r} is not sha256: and 64 lower-case hex digits")
        matches = [image for image in self.images.values() if prefix and image.id.startswith(prefix)]
        if len(matches) > 1:
            raise InvalidInput(f"image.image: {name!r} is the beginning of more than one image's id")
        return matches[0] if matches else None

    def listed_sandboxes(self) -> Iterator[Sandbox]:
        """All but those being made."""
        return (record for record in self.sandboxes.values() if record.state is not SandboxState.CREATING)

    def listed_containers(self) -> Iterator[Container]:
        """All but those being made."""
        return (record for record in self.containers.values() if record.state is not ContainerState.CREATING)

    def containers_of(self, sandbox: SandboxId) -> list[Container]:
        """A sandbox's containers, oldest first, those being made too."""
        return [self.containers[name] for name in self._members.get(sandbox, ())]

    def sandbox_named(self, key: SandboxKey) -> Sandbox | None:
        """The sandbox that a repeated RunPodSandbox means: made or being made, not stopped or on its way out."""
        for record in self.sandboxes.values():
            if (
                keys.of_sandbox(record) == key
                and record.state is not SandboxState.NOT_READY
                and not self.leaving(record.id)
            ):
                return record
        return None

    def container_named(self, key: ContainerKey) -> Container | None:
        """The container that a repeated CreateContainer means; one that has ended is not meant."""
        for record in self.containers_of(key[0]):
            ended = record.state is ContainerState.EXITED
            if keys.of_container(record) == key and not ended and not self.leaving(record.id):
                return record
        return None

    def leaving(self, name: str) -> bool:
        """Whether the sandbox or container with this id is being stopped (a sandbox) or removed."""
        intent = self.intents.get(name)
        return name in self.doomed or (intent is not None and intent.kind in _LEAVING)

    def uses(self, image: ImageId) -> list[Container]:
        """Containers made from an image, or that have it mounted as a volume."""
        return [record for record in self.containers.values() if image in (record.image_id, *record.volume_images)]

    # Applying.

    def _changes(self, commit: Commit) -> tuple[Change, ...]:
        """Containers before their sandboxes."""
        return (
            *(ContainerChange(self.containers.get(one.id), one) for one in commit.put_containers),
            *(ContainerChange(was, None) for name in commit.delete_containers if (was := self.containers.get(name))),
            *(SandboxChange(self.sandboxes.get(one.id), one) for one in commit.put_sandboxes),
            *(SandboxChange(pod, None) for name in commit.delete_sandboxes if (pod := self.sandboxes.get(name))),
        )

    def _apply(self, commit: Commit) -> None:
        for sandbox in commit.put_sandboxes:
            self.sandboxes[sandbox.id] = sandbox
        for container in commit.put_containers:
            self.containers[container.id] = container
            self._members.setdefault(container.sandbox, {})[container.id] = None
        for image in commit.put_images:
            self._forget_names(image.id)
            self.images[image.id] = image
            self._image_names.update(dict.fromkeys((*image.tags, *image.digests), image.id))
        for intent in commit.begin:
            self.intents[intent.id] = intent
        self.doomed.difference_update(commit.delete_sandboxes, commit.delete_containers)
        for gone in commit.delete_containers:
            record = self.containers.pop(gone, None)
            self.exits.pop(gone, None)
            if record is not None:
                self._members.get(record.sandbox, {}).pop(gone, None)
        for sandbox_gone in commit.delete_sandboxes:
            self.sandboxes.pop(sandbox_gone, None)
            self._members.pop(sandbox_gone, None)
        for image_gone in commit.delete_images:
            self._forget_names(image_gone)
            self.images.pop(image_gone, None)
        for ended in commit.end:
            self.intents.pop(ended, None)
        for changed in (*(container.id for container in commit.put_containers), *commit.delete_containers):
            for future in self._waiting.get(changed, ()):
                if not future.done():
                    future.set_result(None)

    def _forget_names(self, image: ImageId) -> None:
        before = self.images.get(image)
        for name in (*before.tags, *before.digests) if before else ():
            if self._image_names.get(name) == image:
                del self._image_names[name]


_LEAVING = frozenset({IntentKind.STOP_SANDBOX, IntentKind.REMOVE_SANDBOX, IntentKind.REMOVE_CONTAINER})


def _by_id(
    records: dict[SandboxId, Sandbox] | dict[ContainerId, Container],
    listed: Iterator[_Record],
    text: str,
    field: str,
    what: str,
) -> _Record:
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
