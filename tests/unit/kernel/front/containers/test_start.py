"""StartContainer through the front's flow, before workers of paper."""

from __future__ import annotations

import asyncio

import pytest

from kernel.contracts.records import ContainerState
from kernel.errors import AlreadyExists, FailedPrecondition
from kernel.front.context import Front
from kernel.host.aio import Deadline
from tests.harness.fakes import pod_workers as fakes


async def test_only_a_created_container_is_started(front: Front, host: fakes.Host, pod: str) -> None:
    container = await fakes.create(front, pod)
    await asyncio.gather(fakes.start(front, container), fakes.start(front, container))
    assert host.count("start") == 1
    with pytest.raises(FailedPrecondition, match="running"):
        await fakes.start(front, container)
    with pytest.raises(AlreadyExists, match="running"):
        await fakes.create(front, pod)
    host.exit(container)
    await front.replica.wait_container(
        front.replica.container(container).id,
        lambda record: record.state is ContainerState.EXITED,
        Deadline.after(5),
    )
    with pytest.raises(FailedPrecondition, match="exited"):
        await fakes.start(front, container)
    assert await fakes.create(front, pod) != container


async def test_an_exit_that_comes_before_the_reply_to_start_is_kept(
    front: Front, host: fakes.Host, pod: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = await fakes.create(front, pod)
    answer = host._answer

    def exits_at_once(name: str, request: object) -> object:
        reply = answer(name, request)  # type: ignore[arg-type]
        if name == "start":
            host.exit(container, 4)
        return reply

    monkeypatch.setattr(host, "_answer", exits_at_once)
    await fakes.start(front, container)
    record = front.replica.container(container)
    await front.replica.wait_container(record.id, lambda one: one.state is ContainerState.EXITED, Deadline.after(5))
    record = front.replica.container(container)
    assert (record.exit_code, record.started_at) == (4, 50)
