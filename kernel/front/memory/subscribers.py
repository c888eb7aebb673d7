"""The subscribers of GetContainerEvents: each change of the records goes to all of them, in order.

- Each subscriber has a queue. One that falls further behind than its length is ended with RESOURCE_EXHAUSTED and
  must list: no event is ever left out silently.
- Events come from records that are on disk. Exits that happen while the runtime worker or the front is away are
  recorded when they are back, and are events then.
- When the front ends, so does the stream (UNAVAILABLE). For a while after its start a subscriber first gets
  STOPPED for all objects that ended before, STOPPED and DELETED for objects that were removed shortly before, then all
  events since the start: none is lost, some are sent twice.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence

from kernel.contracts.records import Container, ContainerState, Gone, Sandbox, SandboxState
from kernel.contracts.supervisor import Snapshot
from kernel.errors import ResourceExhausted, Unavailable
from kernel.front.memory.record_changes import Change, ContainerChange, SandboxChange
from kernel.front.memory.replica import Replica
from kernel.front.responses import container_events
from kernel.front.responses.container_events import DELETED, STOPPED, Kind
from kernel.ids import ContainerId, SandboxId

QUEUE = 1024
"""Events that a subscriber may be behind."""
REPLAY_SECONDS = 60.0
"""Seconds from the front's start in which earlier events are replayed: longer than a restart of the kubelet takes."""


class Subscriber:
    """One stream, and the events that it has not read yet."""

    def __init__(self, limit: int) -> None:
        self._events: deque[bytes] = deque()
        self._limit = limit
        self._news = asyncio.Event()
        self._lost = False
        self._ended = False

    def send(self, event: bytes) -> None:
        """Queue an event; if the queue is full, record that."""
        if len(self._events) >= self._limit:
            self._lost = True
        else:
            self._events.append(event)
        self._news.set()

    def end(self) -> None:
        """End the stream once it has read what is queued."""
        self._ended = True
        self._news.set()

    async def follow(self) -> AsyncIterator[bytes]:
        """Yield the events in order; raise ResourceExhausted after a loss and Unavailable at the front's end."""
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


class Subscribers:
    """All subscribers, and the events that are replayed to those that connect soon after the front's start."""

    def __init__(self, *, limit: int = QUEUE, replay: float = REPLAY_SECONDS) -> None:
        self._limit = limit
        self._replay = replay
        self._subscribers: set[Subscriber] = set()
        self._stopping: set[SandboxId] = set()
        """Sandboxes that are stopped and have containers that may still run: their STOPPED event is due later."""
        self._ended_before: tuple[ContainerId | SandboxId, ...] = ()
        self._gone_before: tuple[Gone, ...] = ()
        self._since: deque[bytes] = deque(maxlen=limit)
        self._replay_until = 0.0

    def begin(self, snapshot: Snapshot) -> None:
        """Take from the records just loaded the events that an earlier front may not have sent."""
        containers = [one.id for one in snapshot.containers if one.state is ContainerState.EXITED]
        sandboxes = [one.id for one in snapshot.sandboxes if one.state is SandboxState.NOT_READY]
        self._ended_before = (*containers, *sandboxes)
        self._gone_before = snapshot.gone
        self._replay_until = time.monotonic() + self._replay

    def changed(self, replica: Replica, changes: Sequence[Change]) -> None:
        """Send the events of a commit."""
        gone = {
            change.before.id: change.before for change in changes if isinstance(change, SandboxChange) if change.before
        }
        for change in changes:
            match change:
                case ContainerChange(before, after) if container := after or before:
                    sandbox = replica.sandboxes.get(container.sandbox_id) or gone.get(container.sandbox_id)
                    for kind in container_events.of_container(before, after):
                        self._send(replica, container.id, kind, sandbox)
                case SandboxChange(before, after) if pod := after or before:
                    for kind in container_events.of_sandbox(before, after):
                        self._of_sandbox(replica, pod, kind, gone=after is None)
        for stopping in [one for one in self._stopping if not _live(replica, one)]:
            self._stopping.discard(stopping)
            self._send(replica, stopping, STOPPED, replica.sandboxes.get(stopping))

    async def follow(self, replica: Replica) -> AsyncIterator[bytes]:
        """Yield the replayed events, then every event from now on."""
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
            self._stopping.add(sandbox.id)  # sent once its last container has ended
            return
        if kind == DELETED and sandbox.id in self._stopping:
            self._stopping.discard(sandbox.id)
            self._send(replica, sandbox.id, STOPPED, sandbox)
        self._send(replica, sandbox.id, kind, sandbox)

    def _ended(self, replica: Replica) -> Iterable[bytes]:
        for one in self._ended_before:
            container = replica.containers.get(ContainerId(one))
            sandbox = replica.sandboxes.get(container.sandbox_id if container else SandboxId(one))
            if sandbox is not None:
                yield _event(replica, one, STOPPED, sandbox)

    def _gone(self, replica: Replica) -> Iterable[bytes]:
        pods = {one.sandbox.id: one.sandbox for one in self._gone_before if one.sandbox is not None}
        for one in self._gone_before:
            match one:
                case Gone(container=Container() as container) if container.state is not ContainerState.CREATING:
                    sandbox = replica.sandboxes.get(container.sandbox_id) or pods.get(container.sandbox_id)
                    yield from (_event(replica, container.id, kind, sandbox) for kind in (STOPPED, DELETED))
                case Gone(sandbox=Sandbox() as sandbox) if sandbox.state is not SandboxState.CREATING:
                    yield from (_event(replica, sandbox.id, kind, sandbox) for kind in (STOPPED, DELETED))

    def _send(self, replica: Replica, about: str, kind: Kind, sandbox: Sandbox | None) -> None:
        remembering = time.monotonic() < self._replay_until
        if not remembering:
            self._since.clear()
        if not (self._subscribers or remembering):
            return
        event = _event(replica, about, kind, sandbox)
        if remembering:
            self._since.append(event)
        for subscriber in self._subscribers:
            subscriber.send(event)


def _event(replica: Replica, about: str, kind: Kind, sandbox: Sandbox | None) -> bytes:
    members = replica.containers_of(sandbox.id) if sandbox is not None else ()
    return container_events.message(about, kind, sandbox, members, time.time_ns())


def _live(replica: Replica, sandbox_id: SandboxId) -> bool:
    return any(one.state.may_have_process for one in replica.containers_of(sandbox_id))
