"""The children of an unpack are ended where they hang; nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from msgspec.structs import replace

from kernel.errors import DeadlineExceeded
from kernel.host.aio import Deadline
from services.storage.methods import create
from tests.integration.storage.conftest import Store, Tar


def children() -> set[int]:
    return {int(word) for word in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


@pytest.mark.parametrize("which", [0, 1], ids=["the decompressor", "the tar's reader"])
async def test_one_that_hangs_is_given_up(store: Store, which: int) -> None:
    config = replace(store.config, storage=replace(store.config.storage, stall_timeout=1.0))
    service = await create(config)
    hanging = Store(service, config)
    before = children()
    layer = store.blob(Tar().add("a", os.urandom(40 << 20)).bytes())
    running = asyncio.get_running_loop().create_task(hanging.unpack_layer(layer))
    try:
        deadline = Deadline.after(20)
        while len(started := sorted(children() - before)) < 2:
            assert deadline.remaining() > 0
            await asyncio.sleep(0.002)
        os.kill(started[which], signal.SIGSTOP)
        with pytest.raises(DeadlineExceeded, match="stall_timeout"):
            await running
        assert not children() - before
        assert store.left_over() == []
    finally:
        await service.close()
