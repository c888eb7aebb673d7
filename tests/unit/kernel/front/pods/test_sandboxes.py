"""Pods through the front's flows with workers that fail: what is answered, undone, joined and repeated."""

from __future__ import annotations

import asyncio

import pytest

from kernel.contracts.records import ContainerState, IntentKind, SandboxState
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import FailedPrecondition, Internal, InvalidInput, NotFound, Unavailable
from kernel.front import flows
from kernel.front.context import Front
from kernel.front.node import queries
from tests.harness.fakes import pod_workers as fakes


async def test_a_pod_from_run_to_gone(front: Front, host: fakes.Host) -> None:
    pod = await fakes.run(front)
    status = (await queries.pod_sandbox_status(
        front, cri.PodSandboxStatusRequest(pod_sandbox_id=pod[:13]), fakes.a_call())).status  # fmt: skip
    assert (status.state, status.network.ip) == (cri.SANDBOX_READY, "10.88.0.2")
    assert [one.ip for one in status.network.additional_ips] == ["fd00::2"]
    container = await fakes.create(front, pod)
    await fakes.start(front, container)
    assert front.replica.container(container).state is ContainerState.RUNNING
    await fakes.stop_pod(front, pod)
    assert front.replica.container(container).exit_code == 137
    assert front.replica.sandbox(pod).state is SandboxState.NOT_READY
    assert host.netns == set()
    await fakes.remove_pod(front, pod)
    assert host.empty()
    await fakes.remove_pod(front, pod)
    await fakes.stop_pod(front, pod)


async def test_equal_runs_at_once_and_later_are_one(front: Front, host: fakes.Host) -> None:
    first, second = await asyncio.gather(fakes.run(front), fakes.run(front))
    assert first == second == await fakes.run(front)
    assert host.count("make_pod") == 1
    assert await fakes.run(front, fakes.pod_config(attempt=1)) != first


async def test_a_stopped_pod_is_not_what_a_repeat_means(front: Front) -> None:
    first = await fakes.run(front)
    await fakes.stop_pod(front, first)
    assert await fakes.run(front) != first


async def test_a_caller_that_leaves_does_not_end_the_run(front: Front, host: fakes.Host) -> None:
    host.hold["attach"] = asyncio.Event()
    asked = asyncio.get_running_loop().create_task(fakes.run(front))
    while "attach" not in host.calls:
        await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait({asked})
    again = asyncio.get_running_loop().create_task(fakes.run(front))
    await asyncio.sleep(0)
    host.hold["attach"].set()
    assert await again in host.pods
    assert host.count("make_pod") == 1


@pytest.mark.parametrize("step", ["attach", "make_pod", "commit"])
async def test_a_run_that_fails_leaves_nothing(front: Front, host: fakes.Host, step: str) -> None:
    host.fail[step] = [None, Internal("broken")] if step == "commit" else [Internal("broken")]
    with pytest.raises(Internal, match="broken"):
        await fakes.run(front)
    assert host.empty()
    assert await fakes.run(front) in host.pods


async def test_an_undo_that_fails_is_tried_again(
    front: Front, host: fakes.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "_FIRST_PAUSE", 0.0)
    host.fail = {"make_pod": [Internal("broken")], "detach": [Unavailable("away"), Unavailable("away")]}
    with pytest.raises(Internal, match="broken"):
        await fakes.run(front)
    assert {intent.kind for intent in host.disk.intents.values()} == {IntentKind.RUN_SANDBOX}
    (failed,) = host.disk.sandboxes
    other = await fakes.run(front)
    assert other != failed  # it never stands in the way
    monkeypatch.setattr(asyncio, "sleep", _yield)
    await fakes.settled(front)
    assert host.pods == {other}
    assert set(host.disk.sandboxes) == {other}


async def _yield(_: float) -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, None)
    await future


async def test_a_host_network_pod_has_no_network_of_its_own(front: Front, host: fakes.Host) -> None:
    pod = await fakes.run(front, fakes.pod_config(host_network=True))
    assert "attach" not in host.calls
    await fakes.stop_pod(front, pod)
    await fakes.remove_pod(front, pod)
    assert "detach" not in host.calls
    assert host.empty()


async def test_a_stop_that_fails_keeps_its_intent_and_a_repeat_finishes_it(front: Front, host: fakes.Host) -> None:
    pod = await fakes.run(front)
    host.fail["detach"] = [Internal("the plugin failed")]
    with pytest.raises(Internal, match="plugin"):
        await fakes.stop_pod(front, pod)
    assert host.disk.intents[pod].kind is IntentKind.STOP_SANDBOX
    assert front.replica.sandbox(pod).network_up
    with pytest.raises(FailedPrecondition):
        await fakes.create(front, pod)
    await fakes.stop_pod(front, pod)
    assert not host.disk.intents
    assert not front.replica.sandbox(pod).network_up


async def test_a_stop_waits_for_a_creation_under_way(front: Front, host: fakes.Host) -> None:
    pod = await fakes.run(front)
    host.hold["create"] = asyncio.Event()
    creating = asyncio.get_running_loop().create_task(fakes.create(front, pod))
    while "create" not in host.calls:
        await asyncio.sleep(0)
    stopping = asyncio.get_running_loop().create_task(fakes.stop_pod(front, pod))
    while front.replica.sandbox(pod).state is SandboxState.READY:
        await asyncio.sleep(0)
    host.hold.pop("create").set()
    container = await creating
    await stopping
    assert front.replica.container(container).state is ContainerState.EXITED


async def test_nothing_is_found_by_what_is_no_id(front: Front) -> None:
    with pytest.raises(InvalidInput, match="pod_sandbox_id"):
        await fakes.stop_pod(front, "")
    with pytest.raises(NotFound):
        front.replica.sandbox("../..")
