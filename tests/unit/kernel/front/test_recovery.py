"""What a crash cut off is finished or undone at the next start, under the same ids."""

from __future__ import annotations

import asyncio

import pytest

from kernel.contracts.records import ContainerState, SandboxState
from kernel.front import recovery
from kernel.front.context import Front
from kernel.front.pods import remove as pod_remove
from kernel.host.aio import Deadline
from kernel.ids import SandboxId
from tests.harness.fakes import pod_workers as fakes


@pytest.mark.parametrize("cut", ["attach", "make_pod"])
async def test_a_run_that_a_crash_cut_off_is_finished_under_the_same_id(host: fakes.Host, cut: str) -> None:
    before = fakes.make_front(host)
    host.hold[cut] = asyncio.Event()
    lost = asyncio.get_running_loop().create_task(fakes.run(before))
    while cut not in host.calls:
        await asyncio.sleep(0)
    lost.cancel()
    await before.tasks.close()
    del host.hold[cut]
    (record,) = host.disk.sandboxes.values()
    assert record.state is SandboxState.CREATING
    after = fakes.make_front(host)
    recovering = after.tasks.run(recovery.recover(after), "recover")
    assert await fakes.run(after) == record.id
    await recovering
    assert not host.disk.intents
    assert after.replica.sandbox(record.id).state is SandboxState.READY
    await after.tasks.close()


async def test_what_was_being_made_before_a_boot_is_undone(host: fakes.Host) -> None:
    before = fakes.make_front(host)
    ready = await fakes.run(before, fakes.pod_config("old"))
    host.hold["create"] = asyncio.Event()
    lost = asyncio.get_running_loop().create_task(fakes.create(before, ready))
    while "create" not in host.calls:
        await asyncio.sleep(0)
    lost.cancel()
    await before.tasks.close()
    del host.hold["create"]
    after = fakes.make_front(host, boot="boot-2")
    await recovery.load(after)
    assert after.replica.sandbox(ready).state is SandboxState.NOT_READY
    await recovery.recover(after)
    assert host.mounts == set()
    assert not host.disk.containers
    assert not host.disk.intents
    await after.tasks.close()


async def test_a_creation_that_a_crash_cut_off_is_finished(host: fakes.Host) -> None:
    before = fakes.make_front(host)
    pod = await fakes.run(before)
    host.hold["create"] = asyncio.Event()
    lost = asyncio.get_running_loop().create_task(fakes.create(before, pod))
    while "create" not in host.calls:
        await asyncio.sleep(0)
    lost.cancel()
    await before.tasks.close()
    del host.hold["create"]
    (record,) = host.disk.containers.values()
    after = fakes.make_front(host)
    recovering = after.tasks.run(recovery.recover(after), "recover")
    assert await fakes.create(after, pod) == record.id
    await recovering
    assert not host.disk.intents
    assert after.replica.container(record.id).state is ContainerState.CREATED
    await after.tasks.close()


async def test_a_bug_in_one_flow_stops_no_other(
    host: fakes.Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = fakes.make_front(host)
    pods = [await fakes.run(before, fakes.pod_config(name)) for name in ("one", "two")]
    host.hold["detach"] = asyncio.Event()
    lost = [asyncio.get_running_loop().create_task(fakes.remove_pod(before, pod)) for pod in pods]
    while host.count("detach") < 2:
        await asyncio.sleep(0)
    for task in lost:
        task.cancel()
    await before.tasks.close()
    del host.hold["detach"]
    remove = pod_remove.remove

    async def broken(front: Front, sandbox_id: SandboxId, deadline: Deadline) -> None:
        if sandbox_id == pods[0]:
            raise ZeroDivisionError
        await remove(front, sandbox_id, deadline)

    monkeypatch.setattr(pod_remove, "remove", broken)
    after = fakes.make_front(host)
    await recovery.recover(after)
    assert set(host.disk.sandboxes) == {pods[0]}
    assert "ZeroDivisionError" in caplog.text
    await after.tasks.close()
