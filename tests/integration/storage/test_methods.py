"""What concerns everything on the host: left-overs, sizes, and that every method of the contract is served."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

from kernel.contracts.definition import Nothing
from kernel.contracts.storage import CONTRACT, ContainerRequest
from kernel.host.aio import Deadline
from services.storage.methods import create
from tests.integration.storage.conftest import CALL, Store, Tar


async def test_leftovers_are_listed_and_swept(store: Store) -> None:
    kept = await store.unpack(Tar().add("a"))
    (store.paths.layers / ".tmp-0123" / "diff" / "x").mkdir(parents=True)
    (store.paths.containers / ".tmp-4567" / "upper").mkdir(parents=True)
    assert (await store.service.inventory(Nothing(), CALL)).partial == (".tmp-0123", ".tmp-4567")
    await store.service.sweep(Nothing(), CALL)
    inventory = await store.service.inventory(Nothing(), CALL)
    assert (inventory.partial, inventory.layers) == ((), (kept,))


async def test_figures_of_the_file_systems(store: Store) -> None:
    diff_id = await store.unpack(Tar().folder("d").add("d/a", b"base a"))
    container, root = await store.mount(diff_id)
    (root / "big").write_bytes(b"x" * 100_000)
    info = await store.service.fs_info(Nothing(), CALL)
    assert (info.containers.bytes, info.containers.inodes) == (4096, 1)  # as counted; nobody waits for a walk
    again = await create(store.config)  # after a restart nothing is known
    try:
        deadline = Deadline.after(20)
        while (info := await again.fs_info(Nothing(), CALL)).containers.bytes < 100_000:
            assert deadline.remaining() > 0
            await asyncio.sleep(0.01)
        assert (await again.usage(ContainerRequest(container_id=container), CALL)).bytes >= 100_000
    finally:
        await again.close()
    layers = (await store.service.layers(Nothing(), CALL)).layers
    assert info.images == layers[diff_id]
    assert info.containers.bytes >= 100_000
    assert Path(info.images_mountpoint).is_dir()
    assert Path(info.containers_mountpoint).is_dir()


async def test_every_method_of_the_contract_is_served(store: Store) -> None:
    served = dict(inspect.getmembers(store.service, inspect.iscoroutinefunction))
    assert set(CONTRACT.methods) <= set(served)
