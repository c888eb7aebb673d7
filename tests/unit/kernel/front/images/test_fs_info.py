"""ImageFsInfo: from memory, and measured again after pulls and removals."""

from __future__ import annotations

import asyncio

from kernel.cri.generated import cri_pb2
from kernel.errors import Unavailable
from kernel.front.context import Front
from kernel.front.images import fs_info
from tests.harness.fakes import image_workers as fakes


async def test_fs_info_is_from_memory(front: Front, workers) -> None:
    async def asked() -> cri_pb2.ImageFsInfoResponse:
        return await fs_info.image_fs_info(front, cri_pb2.ImageFsInfoRequest(), fakes.a_call("ImageFsInfo"))

    first = await asked()
    assert first.image_filesystems[0].fs_id.mountpoint == "/i"
    assert first.container_filesystems[0].fs_id.mountpoint == "/c"
    assert first.image_filesystems[0].timestamp > 0
    workers.fail["fs_info"] = lambda _: Unavailable("storage worker is down")
    front.images.fs_info_read -= 100
    assert await asked() == first
    await front.ends.wait(("measure file systems",))
    assert await asked() == first


async def test_fs_info_knows_of_the_last_pull(front: Front, workers) -> None:
    async def used() -> int:
        reply = await fs_info.image_fs_info(front, cri_pb2.ImageFsInfoRequest(), fakes.a_call("ImageFsInfo"))
        return reply.image_filesystems[0].used_bytes.value

    workers.registry.push(fakes.BUSYBOX, "a", "b")
    assert await used() == 0
    await fakes.pull(front)
    assert await used() == 2000
    await fakes.remove(front, "busybox")
    assert await used() == 0
    workers.hold["fs_info"] = asyncio.Event()
    fs_info.measure_again(front)
    assert await used() == 0  # a storage worker that hangs keeps nobody waiting
