"""A container as the runtime worker holds it in memory, and the report about it.

Run by the runtime worker on its event loop. Rule kept: a change of its state is on disk before it is in memory.
"""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec

from kernel.contracts.runtime import ContainerFact, CreateRequest
from kernel.errors import FailedPrecondition, Internal
from kernel.host.pidfd import Watched
from kernel.ids import ContainerId
from services.runtime.records.bundle import ContainerBundle, ContainerState

UNKNOWN_EXIT_CODE = 255
"""The exit code of a container whose exit code cannot be known."""


class Container:
    """A container that has been created."""

    def __init__(self, container_id: ContainerId, bundle: ContainerBundle, state: ContainerState) -> None:
        self.id = container_id
        self.bundle = bundle
        self.state = state
        """The content of state.json; changed by `change` alone."""
        self.process: Watched | None = None
        """Its first process; None before it is followed, and if there was none to follow."""
        self.conmon: Watched | None = None
        """Its conmon; None before it is followed, and if there was none to follow."""
        self.exited = asyncio.Event()
        self.exit_code = 0
        self.finished_at = 0
        """Nanoseconds since 1970; 0 before it has exited."""
        self.oom_killed = False
        self.known = True
        """Whether the exit code is known. Meaningful only once the container has exited."""
        self.frozen = False
        """Whether a checkpoint keeps it frozen until its files have been read."""
        self.monitor_lost = False
        """Whether conmon ended before the container did."""
        self.swept = False
        """Whether, after the exit, the rest of its processes has been killed."""

    def fact(self) -> ContainerFact:
        """Return the facts that are known about it now."""
        over = self.exited.is_set()
        return ContainerFact(
            container_id=self.id,
            sandbox_id=self.state.sandbox_id,
            state=self._state(),
            pid=self.state.process.pid if self.state.process and not over else 0,
            started_at=self.state.started_at,
            finished_at=self.finished_at,
            exit_code=self.exit_code,
            oom_killed=self.oom_killed,
            frozen=self.frozen,
            monitor_lost=not over and self.monitor_lost,
        )

    def _state(self) -> Literal["created", "running", "exited", "unknown"]:
        if self.exited.is_set():
            return "exited" if self.known else "unknown"
        return "running" if self.was_started else "created"

    @property
    def was_started(self) -> bool:
        """Whether its start has begun."""
        return self.state.phase in ("starting", "started")

    @property
    def waits_for_restore(self) -> bool:
        """Whether it has no process yet, because its start will restore the processes of a checkpoint."""
        return self.state.restores and self.state.phase == "created"

    def check_running(self) -> None:
        """Raise FailedPrecondition if it has exited or its start has not begun."""
        if self.exited.is_set() or not self.was_started:
            raise FailedPrecondition(f"container {self.id} is not running")

    def change(self, **fields: object) -> None:
        """Change fields of its state, on disk and then in memory. Blocks for one small file."""
        state = msgspec.structs.replace(self.state, **fields)
        self.bundle.state.write(state)
        self.state = state

    def request(self) -> CreateRequest:
        """Return the request that it was made from, from disk; Internal if that cannot be read. Blocks."""
        found = self.bundle.request.read()
        if found is None:
            raise Internal(f"container {self.id}: its request cannot be read")
        return found

    def close(self) -> None:
        """Stop watching its processes."""
        for watched in (self.process, self.conmon):
            if watched is not None:
                watched.close()
