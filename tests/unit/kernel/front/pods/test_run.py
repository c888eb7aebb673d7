"""RunPodSandbox with workers that fail: what is answered, undone, joined and repeated."""

from __future__ import annotations

import asyncio

import pytest

from kernel.contracts.records import IntentKind
from kernel.errors import Internal, Unavailable
from kernel.front import flows
from kernel.front.context import Front
from tests.harness.fakes import pod_workers as fakes


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
