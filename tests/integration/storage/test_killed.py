"""A worker that dies or stops in the middle of an unpack leaves one left-over, and no process."""

from __future__ import annotations

import asyncio
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path

from kernel.contracts.definition import Nothing
from kernel.host import process
from kernel.host.aio import Deadline
from services.storage.methods import create
from tests.integration.storage.conftest import CALL, Store, Tar

SCRIPT = Path(__file__).with_name("unpacking.py")


async def until(condition: Callable[[], bool]) -> None:
    deadline = Deadline.after(20)
    while not condition():
        assert deadline.remaining() > 0, "it did not come to it in time"
        await asyncio.sleep(0.002)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def large() -> Tar:
    return Tar().add("a", bytes(48 << 20)).add("b", os.urandom(1 << 20))


async def test_sigkill_in_the_middle(store: Store) -> None:
    layer = store.blob(large().bytes())
    argv = [sys.executable, str(SCRIPT), str(store.paths.root), layer.blob.digest, layer.diff_id]
    worker = await process.start(argv, env={**process.ENVIRONMENT, "PYTHONPATH": str(Path.cwd())})
    await until(lambda: any((store.paths.layers / name / "diff/a").exists() for name in store.left_over()))
    watched = [os.pidfd_open(pid) for pid in children(worker.pid)]
    assert watched
    worker.kill()
    await worker.wait()
    for fd in watched:  # readable once the process ended
        assert select.select([fd], [], [], 10)[0]
        os.close(fd)
    partial = (await store.service.inventory(Nothing(), CALL)).partial
    assert partial == tuple(store.left_over())
    assert len(partial) == 1
    await store.unpack_layer(layer)
    assert (await store.service.inventory(Nothing(), CALL)).partial == partial
    await store.service.sweep(Nothing(), CALL)
    assert store.left_over() == []
    assert (await store.service.inventory(Nothing(), CALL)).layers == (layer.diff_id,)


async def test_what_is_under_way_is_no_leftover(store: Store) -> None:
    layer = store.blob(large().bytes())
    running = asyncio.get_running_loop().create_task(store.unpack_layer(layer))
    await until(lambda: bool(store.left_over()))
    assert (await store.service.inventory(Nothing(), CALL)).partial == ()
    await store.service.sweep(Nothing(), CALL)
    await running
    assert store.left_over() == []


async def test_a_worker_that_stops_cleans_up(store: Store) -> None:
    layer = store.blob(large().bytes())
    service = await create(store.config)
    other = Store(service, store.config)
    before = set(children(os.getpid()))  # other tests' servers live as long as the whole run
    running = asyncio.get_running_loop().create_task(other.unpack_layer(layer))
    await until(lambda: len(set(children(os.getpid())) - before) == 2)
    await service.close()
    await asyncio.wait([running])
    await until(lambda: set(children(os.getpid())) <= before)  # reaped a moment after they have ended
    assert store.left_over() == []
