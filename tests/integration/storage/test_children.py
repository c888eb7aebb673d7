"""The children of an unpack are ended where they hang; nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from msgspec.structs import replace

from kernel.contracts.storage import CheckRequest, LayerState
from kernel.errors import DeadlineExceeded
from kernel.host.aio import Deadline
from services.storage.methods import create
from tests.integration.storage.conftest import CALL, Store, Tar


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


async def test_checks_that_hang_hold_no_unpack_up(store: Store) -> None:
    layers = [await store.unpack(Tar().add(f"f{number}", os.urandom(1000))) for number in range(4)]
    before, stopped = children(), set[int]()
    checks = [store.service.check(CheckRequest(diff_id=layer), CALL) for layer in layers]
    checking = asyncio.gather(*checks)
    try:
        deadline = Deadline.after(20)
        while len(stopped) < 2:  # no more of them run at once
            for child in children() - before - stopped:
                os.kill(child, signal.SIGSTOP)
                stopped.add(child)
            assert deadline.remaining() > 0
            await asyncio.sleep(0.001)
        async with deadline.limit("unpacking beside them"):
            await store.unpack(Tar().add("new", b"x"))
        assert not checking.done()
    finally:
        for child in stopped:
            os.kill(child, signal.SIGCONT)
    assert {found.state for found in await checking} == {LayerState.WHOLE}
