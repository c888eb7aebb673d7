"""Callers that wait until a container's record is in some state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from kernel.contracts.records import Container
from kernel.errors import DeadlineExceeded
from kernel.host.aio import Deadline
from kernel.ids import ContainerId


class ContainerWaiters:
    """All callers that wait. `containers` are the records; the component that changes them calls `wake`."""

    def __init__(self, containers: Mapping[ContainerId, Container]) -> None:
        self._containers = containers
        self._waiting: dict[ContainerId, set[asyncio.Future[None]]] = {}

    async def wait(self, container_id: ContainerId, until: Callable[[Container], bool], deadline: Deadline) -> None:
        """Wait until `until` accepts the record, or the record is gone. DeadlineExceeded names the state it has."""
        while (record := self._containers.get(container_id)) is not None and not until(record):
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting = self._waiting.setdefault(container_id, set())
            waiting.add(changed)
            try:
                async with asyncio.timeout(max(deadline.remaining(), 0)):
                    await changed
            except TimeoutError as error:
                raise DeadlineExceeded(
                    f"container {container_id} is {record.state.value}: the deadline passed"
                ) from error
            finally:
                waiting.discard(changed)
                if not waiting:
                    self._waiting.pop(container_id, None)

    def wake(self, container_ids: Iterable[ContainerId]) -> None:
        """Have the callers that wait for one of these containers check its changed record again."""
        for container_id in container_ids:
            for changed in self._waiting.get(container_id, ()):
                if not changed.done():
                    changed.set_result(None)
