"""A disk that is full, or out of inodes, in the middle of a layer; and one that loses power."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from kernel.config.sections import Config
from kernel.contracts.definition import Nothing
from kernel.errors import CrispError, ResourceExhausted
from services.storage.layers.layer_store import LayerStore
from services.storage.methods import create
from tests.integration.storage.conftest import Store, Tar
from tests.integration.storage.disk import Disk, small_disk


@asynccontextmanager
async def serving(disk: Disk) -> AsyncIterator[Store]:
    config = Config(root=str(disk.mounted / "root"), run=str(disk.mounted / "run"))
    config.paths.blobs.mkdir(parents=True, exist_ok=True)
    service = await create(config)
    try:
        yield Store(service, config)
    finally:
        await service.close()


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        pytest.skip("needs root, and mkfs.ext4")
    with small_disk(tmp_path, 64, *getattr(request, "param", ())) as made:
        yield made


async def test_a_disk_that_fills_up(disk: Disk) -> None:
    async with serving(disk) as store:
        tar = Tar()
        for number in range(12):
            tar.add(f"f{number}", bytes(8 << 20))  # compresses to nothing, and takes 96 MB
        layer = store.blob(tar.bytes())
        before = disk.used()
        with pytest.raises(ResourceExhausted, match="No space left"):
            await store.unpack_layer(layer)
        assert os.listdir(store.paths.layers) == []
        assert abs(disk.used()[0] - before[0]) < 64
        assert disk.used()[1] == before[1]
        await store.unpack(Tar().add("small", b"x"))  # what fits goes on


def fill(path: Path) -> None:
    """Leave no free block."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


async def test_a_disk_with_no_room_for_a_record(disk: Disk) -> None:
    async with serving(disk) as store:
        layer = store.blob(Tar().add("a", bytes(100)).bytes())
        filler = disk.mounted / "filler"
        fill(filler)
        with pytest.raises(ResourceExhausted):
            await store.unpack_layer(layer)
        filler.unlink()
        assert store.left_over() == []
        await store.unpack_layer(layer)


@pytest.mark.parametrize("disk", [("-N", "400")], indirect=True)
async def test_a_disk_that_runs_out_of_inodes(disk: Disk) -> None:
    async with serving(disk) as store:
        tar = Tar()
        for number in range(1000):
            tar.add(f"f{number}")
        layer = store.blob(tar.bytes())
        before = disk.used()
        with pytest.raises(ResourceExhausted, match="No space left"):
            await store.unpack_layer(layer)
        assert disk.used() == before
        assert os.listdir(store.paths.layers) == []


async def test_what_is_listed_before_a_power_failure_is_whole_after_it(disk: Disk) -> None:
    data = os.urandom(2_000_000)
    async with serving(disk) as store:
        done = await store.unpack(Tar().folder("d", mode=0o750).add("d/f", data).add(".wh.gone"))
        (disk.mounted / "never written back").write_bytes(data)
        disk.lose_power()
    disk.boot()
    assert not (disk.mounted / "never written back").exists()  # so the power did fail
    async with serving(disk) as store:
        assert list((await store.service.layers(Nothing(), None)).layers) == [done]  # type: ignore[arg-type]
        assert (store.diff(done) / "d/f").read_bytes() == data
        assert [name for name in os.listdir(store.diff(done)) if name == "gone"]


async def test_a_layer_that_was_not_committed_is_not_there_after_it(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = LayerStore._commit

    def cut_off(self: LayerStore, *given: object) -> object:
        disk_lost.append(True)
        disk.lose_power()
        return commit(self, *given)  # type: ignore[arg-type]

    disk_lost: list[bool] = []
    async with serving(disk) as store:
        layer = store.blob(Tar().add("f", os.urandom(1_000_000)).bytes(), pack=lambda tar: gzip.compress(tar, 1))
        os.sync()
        monkeypatch.setattr(LayerStore, "_commit", cut_off)
        with pytest.raises(CrispError):
            await store.unpack_layer(layer)
        monkeypatch.undo()
    disk.boot()
    async with serving(disk) as store:
        assert (await store.service.layers(Nothing(), None)).layers == {}  # type: ignore[arg-type]
        await store.service.sweep(Nothing(), None)  # type: ignore[arg-type]
        assert os.listdir(store.paths.layers) == []
        await store.unpack_layer(layer)
    assert disk_lost
