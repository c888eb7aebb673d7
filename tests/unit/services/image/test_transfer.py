"""A download that several follow."""

from __future__ import annotations

import asyncio

import pytest

from kernel.contracts.oci import Auth
from kernel.errors import Unavailable
from kernel.host.aio import Tasks
from services.image.transfer import Transfer


async def follow(transfer: Transfer) -> list[int]:
    return [done async for done in transfer.follow()]


@pytest.fixture
def tasks() -> Tasks:
    return Tasks()


def begin(tasks: Tasks, download) -> tuple[Transfer, list[str]]:
    transfer, ended = Transfer(("x", 10, Auth())), []
    transfer.run(tasks.run(download, "download"), lambda: ended.append("ended"))
    return transfer, ended


async def test_all_followers_see_the_end(tasks: Tasks) -> None:
    going = asyncio.Event()
    transfer, ended = begin(tasks, going.wait())
    followers = [tasks.run(follow(transfer), "follow") for _ in range(3)]
    await asyncio.sleep(0)
    assert transfer.followers == 3
    transfer.arrived(5)
    await asyncio.sleep(0)
    going.set()
    assert [await follower for follower in followers] == [[0, 5]] * 3
    assert (ended, transfer.followers) == (["ended"], 0)


async def test_all_followers_get_the_error(tasks: Tasks) -> None:
    going = asyncio.Event()

    async def fail() -> None:
        await going.wait()
        raise Unavailable("gone")

    transfer, _ = begin(tasks, fail())
    followers = [tasks.run(follow(transfer), "follow") for _ in range(2)]
    await asyncio.sleep(0)
    going.set()
    for follower in followers:
        with pytest.raises(Unavailable, match="gone"):
            await follower


async def test_a_follower_of_a_stopped_download_looks_again(tasks: Tasks) -> None:
    transfer, ended = begin(tasks, asyncio.Event().wait())
    follower = tasks.run(follow(transfer), "follow")
    await asyncio.sleep(0)
    await transfer.stop()
    assert await follower == [0]
    assert ended == ["ended"]


async def test_reports_are_thinned() -> None:
    transfer = Transfer(("x", 10, Auth()))
    assert [transfer.notable(done) for done in (0, 1, 2)] == [True, False, False]
