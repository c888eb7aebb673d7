"""Waiting for a container's record ends with the state, with the record and with the deadline."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from kernel.contracts.records import Container, ContainerState
from kernel.errors import DeadlineExceeded
from kernel.front.memory.container_waiters import ContainerWaiters
from kernel.host.aio import Deadline
from kernel.ids import ContainerId
from tests.unit.kernel.front.memory.test_replica import ONE


def exited(record: Container) -> bool:
    return record.state is ContainerState.EXITED


@pytest.mark.parametrize("last", [None, replace(ONE, state=ContainerState.EXITED)])
async def test_a_caller_waits_through_changes_that_are_not_the_one(last: Container | None) -> None:
    records: dict[ContainerId, Container] = {ONE.id: ONE}
    waiters = ContainerWaiters(records)
    waiting = asyncio.get_running_loop().create_task(waiters.wait(ONE.id, exited, Deadline.after(5)))
    for record in (replace(ONE, message="still running"), last):
        await asyncio.sleep(0)
        assert not waiting.done()
        if record is None:
            del records[ONE.id]
        else:
            records[ONE.id] = record
        waiters.wake((ONE.id,))
    await waiting
    await waiters.wait(ONE.id, exited, Deadline.after(0))


async def test_the_deadline_names_the_state() -> None:
    waiters = ContainerWaiters({ONE.id: ONE})
    with pytest.raises(DeadlineExceeded, match="is running: the deadline passed"):
        await waiters.wait(ONE.id, exited, Deadline.after(0.01))
    waiters.wake((ONE.id,))  # nobody is left to wake
