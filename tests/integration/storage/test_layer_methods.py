"""Layers that are refused, joined, repeated and removed."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Callable

import pytest
import zstandard

from kernel.contracts.definition import Nothing
from kernel.contracts.oci import Descriptor, Layer
from kernel.contracts.storage import LayerRequest
from kernel.errors import Corrupt, CrispError, NotFound, ResourceExhausted
from kernel.ids import DiffId, Digest
from tests.integration.storage.conftest import CALL, GZIP, Store, Tar, sha256


async def test_plain_zstd_and_many_gzip_members(store: Store) -> None:
    def members(plain: bytes) -> bytes:
        return gzip.compress(plain[:700]) + gzip.compress(plain[700:])

    for number, (media_type, pack) in enumerate(
        [
            ("application/vnd.oci.image.layer.v1.tar", bytes),
            ("application/vnd.oci.image.layer.v1.tar+zstd", zstandard.ZstdCompressor().compress),
            (GZIP, members),
        ]
    ):
        layer = store.blob(Tar().add(f"f{number}", b"x" * 2000).bytes(), media_type=media_type, pack=pack)
        await store.unpack_layer(layer)
        assert (store.diff(layer.diff_id) / f"f{number}").stat().st_size == 2000


async def test_other_bytes_than_the_image_says(store: Store) -> None:
    good = store.blob(Tar().add("a", b"x").bytes())
    layer = Layer(blob=good.blob, diff_id=DiffId(Digest("sha256:" + "0" * 64)))
    with pytest.raises(Corrupt, match="the image's configuration names"):
        await store.unpack_layer(layer)
    assert os.listdir(store.paths.layers) == []


@pytest.mark.parametrize("pack", [lambda tar: b"no gzip" + tar, lambda tar: b""])
async def test_a_blob_that_does_not_decompress(store: Store, pack: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Corrupt):
        await store.unpack_layer(store.blob(Tar().add("a").bytes(), pack=pack))
    assert os.listdir(store.paths.layers) == []


async def test_a_truncated_blob(store: Store) -> None:
    tar = Tar().add("a", os.urandom(300_000)).bytes()
    with pytest.raises(Corrupt, match="cannot be decompressed"):
        await store.unpack_layer(store.blob(tar, pack=lambda plain: gzip.compress(plain)[:-5000]))


async def test_a_zstd_frame_that_asks_for_too_much_memory(store: Store) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=30, write_content_size=False)

    def pack(plain: bytes) -> bytes:
        packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        return packer.compress(plain) + packer.flush()

    layer = store.blob(Tar().add("a").bytes(), media_type="application/vnd.oci.image.layer.v1.tar+zstd", pack=pack)
    with pytest.raises(Corrupt, match="memory"):
        await store.unpack_layer(layer)


async def test_too_many_bytes(store: Store) -> None:
    with pytest.raises(ResourceExhausted, match="more bytes"):
        await store.unpack(Tar().add("a", bytes(65 << 20)))
    assert os.listdir(store.paths.layers) == []


async def test_too_many_entries(store: Store) -> None:
    tar = Tar()
    for number in range(20_001):
        tar.add(".wh..wh.x" if number else "a")
    with pytest.raises(ResourceExhausted, match="more entries"):
        await store.unpack(tar)


async def test_a_missing_blob_and_one_that_is_a_trap(store: Store) -> None:
    layer = store.blob(Tar().add("a").bytes())
    path = store.paths.blob(layer.blob.digest)
    path.unlink()
    with pytest.raises(NotFound):
        await store.unpack_layer(layer)
    os.mkfifo(path)
    with pytest.raises(NotFound):
        await store.unpack_layer(layer)
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(NotFound):
        await store.unpack_layer(layer)


async def test_calls_join_and_repeat(store: Store) -> None:
    layer = store.blob(Tar().add("a", b"x" * 1_000_000).bytes())
    usages = await asyncio.gather(*(store.unpack_layer(layer) for _ in range(5)))
    assert len(set(usages)) == 1
    store.paths.blob(layer.blob.digest).unlink()
    assert await store.unpack_layer(layer) == usages[0]
    assert (await store.service.layers(Nothing(), CALL)).layers == {layer.diff_id: usages[0]}
    assert store.left_over() == []


async def test_a_caller_that_leaves_does_not_end_it(store: Store) -> None:
    layer = store.blob(Tar().add("a", b"x" * 2_000_000).bytes())
    first = asyncio.get_running_loop().create_task(store.unpack_layer(layer))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await store.unpack_layer(layer)
    assert store.left_over() == []


async def test_a_damaged_layer_is_made_again(store: Store) -> None:
    layer = store.blob(Tar().add("a", b"x").bytes())
    await store.unpack_layer(layer)
    (store.paths.layer(layer.diff_id) / "layer.json").write_text("{")
    assert (await store.service.layers(Nothing(), CALL)).layers == {}
    assert (await store.service.inventory(Nothing(), CALL)).partial == (store.paths.layer(layer.diff_id).name,)
    await store.unpack_layer(layer)
    assert (store.diff(layer.diff_id) / "a").read_bytes() == b"x"
    assert store.left_over() == []


async def test_removal(store: Store) -> None:
    diff_id = await store.unpack(Tar().folder("a").add("a/b"))
    for _ in range(2):  # gone already is success
        await store.service.remove_layer(LayerRequest(diff_id=diff_id), CALL)
    assert os.listdir(store.paths.layers) == []


async def test_a_malformed_id(store: Store) -> None:
    layer = Layer(
        blob=Descriptor(media_type=GZIP, digest=sha256(b""), size=0), diff_id=DiffId(Digest("sha256:../../etc"))
    )
    with pytest.raises(CrispError):
        await store.unpack_layer(layer)
