"""What the runtime says of the host reaches the records, however late."""

from __future__ import annotations

import asyncio

import pytest

from kernel.contracts import runtime
from kernel.contracts.records import ContainerState, SandboxState
from kernel.cri.generated import cri_pb2 as cri
from kernel.front import facts
from kernel.front.context import Front
from kernel.front.node import queries
from kernel.host.aio import Deadline
from tests.harness.fakes import pod_workers as fakes


@pytest.mark.parametrize(
    ("code", "oom", "reason"), [(0, False, "Completed"), (3, False, "Error"), (137, True, "OOMKilled")]
)
async def test_an_exit_reaches_the_status(
    front: Front, host: fakes.Host, pod: str, code: int, oom: bool, reason: str
) -> None:
    container = await fakes.create(front, pod)
    await fakes.start(front, container)
    host.exit(container, code, oom=oom)
    record = front.replica.container(container)
    await front.replica.wait_container(record.id, lambda one: one.state is ContainerState.EXITED, Deadline.after(5))
    request = cri.ContainerStatusRequest(container_id=container)
    status = (await queries.container_status(front, request, fakes.a_call())).status
    assert (status.exit_code, status.reason, status.started_at, status.finished_at) == (code, reason, 50, 99)


async def test_what_happened_while_the_front_was_away_is_made_up_for(front: Front, host: fakes.Host, pod: str) -> None:
    ran, vanished, runs = [await fakes.create(front, pod, fakes.container_config(name)) for name in "abc"]
    for container in (ran, vanished, runs):
        await fakes.start(front, container)
    await front.tasks.close()
    host.exit(ran, 5)
    del host.containers[vanished]
    again = fakes.make_front(host)
    await facts.refresh(again, Deadline.after(5))
    assert again.replica.container(ran).exit_code == 5
    assert again.replica.container(vanished).exit_code == 255
    assert again.replica.container(runs).state is ContainerState.RUNNING
    assert host.disk.containers[again.replica.container(ran).id].exit_code == 5
    await again.tasks.close()


async def test_a_pod_whose_pause_process_ends_is_not_ready(front: Front, host: fakes.Host, pod: str) -> None:
    gone = runtime.PodFact(sandbox_id=front.replica.sandbox(pod).id, ready=False)
    for watcher in host.watchers:
        watcher.put_nowait(runtime.PodChanged(fact=gone))
    async with asyncio.timeout(5):
        while front.replica.sandbox(pod).state is SandboxState.READY:
            await asyncio.sleep(0)


async def test_a_container_whose_state_cannot_be_read_is_unknown_until_it_can(
    front: Front, host: fakes.Host, pod: str
) -> None:
    container = await fakes.create(front, pod)
    await fakes.start(front, container)
    host.unreadable.add(container)
    await facts.refresh(front, Deadline.after(5))
    request = cri.ContainerStatusRequest(container_id=container)
    status = (await queries.container_status(front, request, fakes.a_call())).status
    assert status.state == cri.CONTAINER_UNKNOWN
    host.unreadable.clear()
    await facts.refresh(front, Deadline.after(5))
    assert front.replica.container(container).state is ContainerState.RUNNING
