"""PullImage: equal pulls join, and a pull that no caller waits for ends."""

from __future__ import annotations

import asyncio

import pytest

from kernel.cri.generated import node_pb2
from kernel.front.context import Front
from kernel.front.images import pulls
from kernel.front.node import node_service
from tests.harness.fakes import image_workers as fakes


async def test_equal_pulls_join(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a")
    workers.hold["fetch"] = asyncio.Event()
    both = asyncio.gather(fakes.pull(front, "docker.io/busybox"), fakes.pull(front, fakes.BUSYBOX))
    while not workers.count("fetch"):
        await asyncio.sleep(0)
    workers.hold["fetch"].set()
    first, second = await both
    assert first == second
    assert (workers.count("resolve"), workers.count("fetch"), workers.count("unpack")) == (1, 1, 1)


async def test_a_pull_goes_on_where_its_caller_asks_again(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a")
    workers.hold["fetch"] = asyncio.Event()
    caller = asyncio.get_running_loop().create_task(fakes.pull(front))
    while not workers.count("fetch"):
        await asyncio.sleep(0)
    (under_way,) = front.images.pulls.values()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert (under_way.waiting, under_way.task.done()) == (0, False)
    repeated = asyncio.get_running_loop().create_task(fakes.pull(front, fakes.BUSYBOX))
    while not under_way.waiting:
        await asyncio.sleep(0)
    workers.hold["fetch"].set()
    await repeated
    assert workers.count("resolve") == 1


@pytest.mark.parametrize("watched", [False, True])
async def test_a_pull_that_nobody_waits_for_ends_and_leaves_nothing(
    front: Front, workers, monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    monkeypatch.setattr(pulls, "ABANDONED_SECONDS", 0.0)
    workers.registry.push(fakes.BUSYBOX, "a", "b")
    workers.hold["fetch"] = asyncio.Event()

    async def watch() -> None:
        async for _ in node_service.pull_image(front, node_pb2.PullImageRequest(image="busybox"), fakes.a_call()):
            pass

    callers = [asyncio.get_running_loop().create_task(watch() if watched else fakes.pull(front)) for _ in range(2)]
    while workers.count("fetch") < 2:
        await asyncio.sleep(0)
    (under_way,) = front.images.pulls.values()
    while under_way.waiting < 2:
        await asyncio.sleep(0)
    callers[0].cancel()
    await asyncio.wait(callers[:1])
    for _ in range(20):
        await asyncio.sleep(0)
    assert (under_way.waiting, under_way.progress.abandoned) == (1, False)
    callers[1].cancel()
    await asyncio.wait_for(asyncio.wait([under_way.task]), 10)
    assert under_way.task.cancelled()
    fakes.assert_nothing_left(front, workers)
    workers.hold["fetch"].set()
    await fakes.pull(front)
    assert workers.count("resolve") == 2


async def test_a_new_pull_waits_for_the_end_of_one_that_was_given_up(
    front: Front, workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulls, "ABANDONED_SECONDS", 0.0)
    workers.registry.push(fakes.BUSYBOX, "a")
    workers.hold["fetch"], workers.hold["drop"] = asyncio.Event(), asyncio.Event()
    first = asyncio.get_running_loop().create_task(fakes.pull(front))
    while not workers.count("fetch"):
        await asyncio.sleep(0)
    first.cancel()
    while not workers.count("drop"):
        await asyncio.sleep(0.001)
    second = asyncio.get_running_loop().create_task(fakes.pull(front))
    while workers.count("resolve") < 2:
        await asyncio.sleep(0)
    workers.hold["fetch"].set()
    assert workers.count("fetch") == 1
    workers.hold["drop"].set()
    await second
    assert workers.layers == {fakes.digest_of(b"diff a")}


async def test_an_error_of_a_pull_whose_callers_have_left_is_reported(
    front: Front, workers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def broken(*_: object) -> None:
        begun.set()
        await go_on.wait()
        raise ZeroDivisionError

    monkeypatch.setattr("kernel.front.images.pull_flow.first", broken)
    caller = asyncio.get_running_loop().create_task(fakes.pull(front))
    await begun.wait()
    (under_way,) = front.images.pulls.values()
    caller.cancel()
    await asyncio.wait({caller})
    go_on.set()
    await asyncio.wait({under_way.task})
    await asyncio.sleep(0)
    assert "ZeroDivisionError" in caplog.text
