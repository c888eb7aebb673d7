"""StopContainer through the front's flow, before workers of paper."""

from __future__ import annotations

import asyncio

import pytest

from kernel.contracts.records import ContainerState
from kernel.errors import InvalidInput
from kernel.front import facts
from kernel.front.context import Front
from kernel.host.aio import Deadline
from tests.harness.fakes import pod_workers as fakes


async def test_stop_and_remove_are_repeatable(front: Front, host: fakes.Host, pod: str) -> None:
    container = await fakes.create(front, pod)
    await fakes.start(front, container)
    await asyncio.gather(fakes.stop_container(front, container, 30), fakes.stop_container(front, container, 1))
    await fakes.stop_container(front, container)
    await fakes.remove_container(front, container)
    await fakes.remove_container(front, container)
    await fakes.stop_container(front, container)
    assert (host.mounts, host.containers) == (set(), {})
    with pytest.raises(InvalidInput, match="timeout"):
        await fakes.stop_container(front, container, -1)


async def test_an_unknown_container_is_stopped_and_has_ended(front: Front, host: fakes.Host, pod: str) -> None:
    container = await fakes.create(front, pod)
    await fakes.start(front, container)
    host.unreadable.add(container)
    await facts.refresh(front, Deadline.after(5))
    assert front.replica.container(container).state is ContainerState.UNKNOWN
    await fakes.stop_container(front, container, 30)
    record = front.replica.container(container)
    assert (record.state, record.exit_code, record.reason) == (ContainerState.EXITED, 255, "Unknown")
