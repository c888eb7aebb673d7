"""GetContainerEvents: what changes in the records, told in order to every subscriber.

A sandbox gives events as a container does, under its own id: CREATED and STARTED once it is ready, STOPPED once it and
all of its containers have ended, DELETED. Each event bears the sandbox's status and its containers' at that moment;
what is deleted is not among them, and a deleted sandbox's last status is given, because the kubelet drops an event
without one.

- Each subscriber has a queue. One that falls further behind than its length is ended with RESOURCE_EXHAUSTED and
  must list: no event is ever left out in silence.
- Events come from records that are on disk. Exits that happen while the runtime worker or the front is away are
  recorded when they are back, and are events then.
- When the front ends, so does the stream (UNAVAILABLE). For a while after its start a subscriber is first given
  STOPPED for all that had ended before, STOPPED and DELETED for what was removed shortly before, then all that has
  happened since: neither is lost, some are told twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from kernel.contracts.records import Container, ContainerState, Gone, Sandbox, SandboxState
from kernel.contracts.supervisor import Snapshot
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import ResourceExhausted, Unavailable
from kernel.front.memory.replica import Change, ContainerChange, Replica, SandboxChange
from kernel.front.responses import views
from kernel.ids import ContainerId, SandboxId

if TYPE_CHECKING:
    from kernel.front.context import Call, Front

_LOG = logging.getLogger(__name__)
QUEUE = 1024
"""Events that a subscriber may be behind."""
REPLAY_SECONDS = 60.0
"""After the front's start: longer than a kubelet takes to come back."""
_LIVE = frozenset({ContainerState.CREATED, ContainerState.RUNNING, ContainerState.UNKNOWN})
Kind: TypeAlias = "cri.ContainerEventType.ValueType"
CREATED, STARTED, STOPPED, DELETED = (
    cri.CONTAINER_CREATED_EVENT,
    cri.CONTAINER_STARTED_EVENT,
    cri.CONTAINER_STOPPED_EVENT,
    cri.CONTAINER_DELETED_EVENT,
)


async def get_container_events(front: Front, request: cri.GetEventsRequest, call: Call) -> AsyncIterator[bytes]:
    """GetContainerEvents: until the caller leaves, falls behind, or the front ends."""
    async for event in front.events.follow(front.replica):
        yield event


def of_container(before: Container | None, after: Container | None) -> Iterator[Kind]:
    """What a change of a container's record tells; nothing of one that is still being made. Pure."""
    was = ContainerState.CREATING if before is None else before.state
    if after is None:
        if was is not ContainerState.CREATING:
            yield from () if was is ContainerState.EXITED else (STOPPED,)
            yield DELETED
        return
    now = after.state
    if was is ContainerState.CREATING and now is not ContainerState.CREATING:
        yield CREATED
    ran = was in (ContainerState.RUNNING, ContainerState.UNKNOWN, ContainerState.EXITED)
    if not ran and (now is ContainerState.RUNNING or (now is ContainerState.EXITED and after.started_at)):
        yield STARTED
    if now is ContainerState.EXITED and was is not ContainerState.EXITED:
        yield STOPPED


def of_sandbox(before: Sandbox | None, after: Sandbox | None) -> Iterator[Kind]:
    """What a change of a sandbox's record tells. Pure."""
    was = SandboxState.CREATING if before is None else before.state
    if after is None:
        if was is not SandboxState.CREATING:
            yield from () if was is SandboxState.NOT_READY else (STOPPED,)
            yield DELETED
        return
    if was is SandboxState.CREATING and after.state is SandboxState.READY:
        yield from (CREATED, STARTED)
    if after.state is SandboxState.NOT_READY and was is not SandboxState.NOT_READY:
        yield STOPPED


class Subscriber:
    """One stream, and what it has not read yet."""

    def __init__(self, limit: int) -> None:
        self._events: deque[bytes] = deque()
        self._limit = limit
        self._news = asyncio.Event()
        self._lost = False
        self._ended = False

    def tell(self, event: bytes) -> None:
        """Queue an event, or note that the queue was too short."""
        if len(self._events) >= self._limit:
            self._lost = True
        else:
            self._events.append(event)
        self._news.set()

    def end(self) -> None:
        """No more will come."""
        self._ended = True
        self._news.set()

    async def follow(self) -> AsyncIterator[bytes]:
        """The events in order; those that came before a loss are still given."""
        while True:
            while self._events and not self._lost:
                yield self._events.popleft()
            if self._lost:
                raise ResourceExhausted(
                    f"the subscriber is more than {self._limit} events behind", hint="list, and subscribe again"
                )
            if self._ended:
                raise Unavailable("the front ends", hint="subscribe again, and list")
            self._news.clear()
            await self._news.wait()


class Events:
    """All subscribers, and what those that come soon after a start are still told."""

    def __init__(self, *, limit: int = QUEUE, replay: float = REPLAY_SECONDS) -> None:
        self._limit = limit
        self._replay = replay
        self._subscribers: set[Subscriber] = set()
        self._stopping: set[SandboxId] = set()
        self._ended_before: tuple[ContainerId | SandboxId, ...] = ()
        self._gone_before: tuple[Gone, ...] = ()
        self._since: deque[bytes] = deque(maxlen=limit)
        self._replay_until = 0.0

    def begin(self, snapshot: Snapshot) -> None:
        """The records have been loaded: this is what an earlier front may not have told."""
        containers = [one.id for one in snapshot.containers if one.state is ContainerState.EXITED]
        sandboxes = [one.id for one in snapshot.sandboxes if one.state is SandboxState.NOT_READY]
        self._ended_before = (*containers, *sandboxes)
        self._gone_before = snapshot.gone
        self._replay_until = time.monotonic() + self._replay

    def changed(self, replica: Replica, changes: Sequence[Change]) -> None:
        """Tell what a commit has changed."""
        gone = {
            change.before.id: change.before for change in changes if isinstance(change, SandboxChange) if change.before
        }
        for change in changes:
            match change:
                case ContainerChange(before, after) if container := after or before:
                    sandbox = replica.sandboxes.get(container.sandbox) or gone.get(container.sandbox)
                    for kind in of_container(before, after):
                        self._tell(replica, container.id, kind, sandbox)
                case SandboxChange(before, after) if pod := after or before:
                    for kind in of_sandbox(before, after):
                        self._of_sandbox(replica, pod, kind, gone=after is None)
        for stopping in [one for one in self._stopping if not _live(replica, one)]:
            self._stopping.discard(stopping)
            self._tell(replica, stopping, STOPPED, replica.sandboxes.get(stopping))

    async def follow(self, replica: Replica) -> AsyncIterator[bytes]:
        """Events from now on, after what is replayed."""
        subscriber = Subscriber(self._limit)
        replayed: list[bytes] = []
        if time.monotonic() < self._replay_until:
            replayed = [*self._ended(replica), *self._gone(replica), *self._since]
        self._subscribers.add(subscriber)
        try:
            for event in replayed:
                yield event
            async for event in subscriber.follow():
                yield event
        finally:
            self._subscribers.discard(subscriber)

    def close(self) -> None:
        """End every stream."""
        for subscriber in self._subscribers:
            subscriber.end()

    def _of_sandbox(self, replica: Replica, sandbox: Sandbox, kind: Kind, *, gone: bool) -> None:
        if kind == STOPPED and not gone:
            self._stopping.add(sandbox.id)  # told once its last container has ended
            return
        if kind == DELETED and sandbox.id in self._stopping:
            self._stopping.discard(sandbox.id)
            self._tell(replica, sandbox.id, STOPPED, sandbox)
        self._tell(replica, sandbox.id, kind, sandbox)

    def _ended(self, replica: Replica) -> Iterable[bytes]:
        for name in self._ended_before:
            container = replica.containers.get(ContainerId(name))
            sandbox = replica.sandboxes.get(container.sandbox if container else SandboxId(name))
            if sandbox is not None:
                yield event(replica, name, STOPPED, sandbox)

    def _gone(self, replica: Replica) -> Iterable[bytes]:
        pods = {one.sandbox.id: one.sandbox for one in self._gone_before if one.sandbox is not None}
        for one in self._gone_before:
            match one:
                case Gone(container=Container() as container) if container.state is not ContainerState.CREATING:
                    sandbox = replica.sandboxes.get(container.sandbox) or pods.get(container.sandbox)
                    yield from (event(replica, container.id, kind, sandbox) for kind in (STOPPED, DELETED))
                case Gone(sandbox=Sandbox() as sandbox) if sandbox.state is not SandboxState.CREATING:
                    yield from (event(replica, sandbox.id, kind, sandbox) for kind in (STOPPED, DELETED))

    def _tell(self, replica: Replica, name: str, kind: Kind, sandbox: Sandbox | None) -> None:
        remembering = time.monotonic() < self._replay_until
        if not remembering:
            self._since.clear()
        if not (self._subscribers or remembering):
            return
        message = event(replica, name, kind, sandbox)
        if remembering:
            self._since.append(message)
        for subscriber in self._subscribers:
            subscriber.tell(message)


def event(replica: Replica, name: str, kind: Kind, sandbox: Sandbox | None) -> bytes:
    """An event of now, serialised once for all subscribers."""
    message = cri.ContainerEventResponse(container_id=name, container_event_type=kind, created_at=time.time_ns())
    if sandbox is not None:
        message.pod_sandbox_status.CopyFrom(views.pod_status(sandbox))
        message.containers_statuses.extend(
            views.container_status(one)
            for one in replica.containers_of(sandbox.id)
            if one.state is not ContainerState.CREATING
        )
    return message.SerializeToString()


def _live(replica: Replica, sandbox: SandboxId) -> bool:
    return any(one.state in _LIVE for one in replica.containers_of(sandbox))
