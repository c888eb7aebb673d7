"""StopPodSandbox with workers that fail, and beside creations under way."""

from __future__ import annotations

import asyncio

import pytest

from kernel.contracts.records import ContainerState, IntentKind, SandboxState
from kernel.errors import FailedPrecondition, Internal, InvalidInput, NotFound
from kernel.front import facts
from kernel.front.context import Front
from kernel.host.aio import Deadline
from tests.harness.fakes import pod_workers as fakes


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


async def test_the_end_of_a_pod_ends_its_unknown_containers_too(front: Front, host: fakes.Host, pod: str) -> None:
    container = await fakes.create(front, pod)
    await fakes.start(front, container)
    host.unreadable.add(container)
    await facts.refresh(front, Deadline.after(5))
    await fakes.stop_pod(front, pod)
    assert host.containers == {}
    assert front.replica.container(container).state is ContainerState.EXITED
