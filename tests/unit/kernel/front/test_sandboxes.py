"""Pods through the front's flows with workers that fail: what is answered, undone, joined and repeated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kernel.contracts.records import ContainerState, IntentKind, SandboxState
from kernel.errors import FailedPrecondition, Internal, InvalidInput, NotFound, Unavailable
from kernel.front import container_create, containers, flows, queries, recovery, sandboxes
from kernel.front.context import Front
from kernel.front.generated import cri_pb2 as cri
from tests.unit.kernel.front import pod_workers as fakes


@pytest.fixture
def host() -> fakes.Host:
    return fakes.Host()


@pytest.fixture
async def front(host: fakes.Host) -> AsyncIterator[Front]:
    made = fakes.make_front(host)
    fakes.watch(made)
    yield made
    await made.tasks.close()


async def run(front: Front, config: cri.PodSandboxConfig | None = None) -> str:
    request = cri.RunPodSandboxRequest(config=config or fakes.pod_config())
    return (await sandboxes.run_pod_sandbox(front, request, fakes.a_call())).pod_sandbox_id


async def stop(front: Front, sandbox: str) -> None:
    await sandboxes.stop_pod_sandbox(front, cri.StopPodSandboxRequest(pod_sandbox_id=sandbox), fakes.a_call())


async def remove(front: Front, sandbox: str) -> None:
    await sandboxes.remove_pod_sandbox(front, cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox), fakes.a_call())


async def create(front: Front, sandbox: str, config: cri.ContainerConfig | None = None) -> str:
    request = cri.CreateContainerRequest(pod_sandbox_id=sandbox, config=config or fakes.container_config())
    return (await container_create.create_container(front, request, fakes.a_call())).container_id


async def start(front: Front, container: str) -> None:
    await containers.start_container(front, cri.StartContainerRequest(container_id=container), fakes.a_call())


async def settled(front: Front) -> None:
    """Everything under way has ended, but for the watches."""
    while pending := [task for task in front.tasks._tasks if not task.get_name().startswith("watch")]:
        await asyncio.wait(pending, timeout=5)


async def test_a_pod_from_run_to_gone(front: Front, host: fakes.Host) -> None:
    pod = await run(front)
    status = (await queries.pod_sandbox_status(
        front, cri.PodSandboxStatusRequest(pod_sandbox_id=pod[:13]), fakes.a_call())).status  # fmt: skip
    assert (status.state, status.network.ip) == (cri.SANDBOX_READY, "10.88.0.2")
    assert [one.ip for one in status.network.additional_ips] == ["fd00::2"]
    container = await create(front, pod)
    await start(front, container)
    assert front.replica.container(container).state is ContainerState.RUNNING
    await stop(front, pod)
    assert front.replica.container(container).exit_code == 137
    assert front.replica.sandbox(pod).state is SandboxState.NOT_READY
    assert host.netns == set()
    await remove(front, pod)
    assert host.empty()
    await remove(front, pod)
    await stop(front, pod)


async def test_equal_runs_at_once_and_later_are_one(front: Front, host: fakes.Host) -> None:
    first, second = await asyncio.gather(run(front), run(front))
    assert first == second == await run(front)
    assert host.count("make_pod") == 1
    assert await run(front, fakes.pod_config(attempt=1)) != first


async def test_a_stopped_pod_is_not_what_a_repeat_means(front: Front) -> None:
    first = await run(front)
    await stop(front, first)
    assert await run(front) != first


async def test_a_caller_that_leaves_does_not_end_the_run(front: Front, host: fakes.Host) -> None:
    host.hold["attach"] = asyncio.Event()
    asked = asyncio.get_running_loop().create_task(run(front))
    while "attach" not in host.calls:
        await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait({asked})
    again = asyncio.get_running_loop().create_task(run(front))
    await asyncio.sleep(0)
    host.hold["attach"].set()
    assert await again in host.pods
    assert host.count("make_pod") == 1


@pytest.mark.parametrize("step", ["attach", "make_pod", "commit"])
async def test_a_run_that_fails_leaves_nothing(front: Front, host: fakes.Host, step: str) -> None:
    host.fail[step] = [None, Internal("broken")] if step == "commit" else [Internal("broken")]
    with pytest.raises(Internal, match="broken"):
        await run(front)
    assert host.empty()
    assert await run(front) in host.pods


async def test_an_undo_that_fails_is_tried_again(
    front: Front, host: fakes.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "_FIRST_DELAY", 0.0)
    host.fail = {"make_pod": [Internal("broken")], "detach": [Unavailable("away"), Unavailable("away")]}
    with pytest.raises(Internal, match="broken"):
        await run(front)
    assert {intent.kind for intent in host.disk.intents.values()} == {IntentKind.RUN_SANDBOX}
    (failed,) = host.disk.sandboxes
    other = await run(front)
    assert other != failed  # it never stands in the way
    monkeypatch.setattr(asyncio, "sleep", _yield)
    await settled(front)
    assert host.pods == {other}
    assert set(host.disk.sandboxes) == {other}


async def _yield(_: float) -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, None)
    await future


async def test_a_host_network_pod_has_no_network_of_its_own(front: Front, host: fakes.Host) -> None:
    pod = await run(front, fakes.pod_config(host_network=True))
    assert "attach" not in host.calls
    await stop(front, pod)
    await remove(front, pod)
    assert "detach" not in host.calls
    assert host.empty()


async def test_a_stop_that_fails_keeps_its_intent_and_a_repeat_finishes_it(front: Front, host: fakes.Host) -> None:
    pod = await run(front)
    host.fail["detach"] = [Internal("the plugin failed")]
    with pytest.raises(Internal, match="plugin"):
        await stop(front, pod)
    assert host.disk.intents[pod].kind is IntentKind.STOP_SANDBOX
    assert front.replica.sandbox(pod).network_up
    with pytest.raises(FailedPrecondition):
        await create(front, pod)
    await stop(front, pod)
    assert not host.disk.intents
    assert not front.replica.sandbox(pod).network_up


async def test_a_stop_waits_for_a_creation_under_way(front: Front, host: fakes.Host) -> None:
    pod = await run(front)
    host.hold["create"] = asyncio.Event()
    creating = asyncio.get_running_loop().create_task(create(front, pod))
    while "create" not in host.calls:
        await asyncio.sleep(0)
    stopping = asyncio.get_running_loop().create_task(stop(front, pod))
    while front.replica.sandbox(pod).state is SandboxState.READY:
        await asyncio.sleep(0)
    host.hold.pop("create").set()
    container = await creating
    await stopping
    assert front.replica.container(container).state is ContainerState.EXITED


async def test_nothing_is_found_by_what_is_no_id(front: Front) -> None:
    with pytest.raises(InvalidInput, match="pod_sandbox_id"):
        await stop(front, "")
    with pytest.raises(NotFound):
        front.replica.sandbox("../..")


@pytest.mark.parametrize("cut", ["attach", "make_pod"])
async def test_a_run_that_a_crash_cut_off_is_finished_under_the_same_id(host: fakes.Host, cut: str) -> None:
    before = fakes.make_front(host)
    host.hold[cut] = asyncio.Event()
    lost = asyncio.get_running_loop().create_task(run(before))
    while cut not in host.calls:
        await asyncio.sleep(0)
    lost.cancel()
    await before.tasks.close()
    del host.hold[cut]
    (record,) = host.disk.sandboxes.values()
    assert record.state is SandboxState.CREATING
    after = fakes.make_front(host)
    recovering = after.tasks.start(recovery.recover(after), "recover")
    assert await run(after) == record.id
    await recovering
    assert not host.disk.intents
    assert after.replica.sandbox(record.id).state is SandboxState.READY
    await after.tasks.close()


async def test_what_was_being_made_before_a_boot_is_undone(host: fakes.Host) -> None:
    before = fakes.make_front(host)
    ready = await run(before, fakes.pod_config("old"))
    host.hold["create"] = asyncio.Event()
    lost = asyncio.get_running_loop().create_task(create(before, ready))
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
