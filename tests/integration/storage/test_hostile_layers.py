"""Layers made to trip, flood or fool: each is refused, or gives what its bytes say; nothing else is touched."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import lzma
import os
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from msgspec.structs import replace

from kernel.contracts.oci import Layer
from kernel.contracts.storage import CheckRequest, LayerState
from kernel.errors import Corrupt, CrispError, InvalidInput, ResourceExhausted
from kernel.ids import DiffId, Digest
from services.storage.layers.blob import most_bytes
from services.storage.methods import create
from tests.integration.storage.conftest import CALL, Store, Tar, sha256

ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"


async def test_a_link_that_is_swapped_while_the_layer_is_made(store: Store, tmp_path: Path) -> None:
    """As by a helper on the host, which no layer has: even so no file comes to lie outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    tar = Tar().folder("d")
    for number in range(1500):
        tar.add(f"d/{number}", b"x").add(f"other/{number}", b"x")
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            for folder in store.paths.layers.glob(".tmp-*/diff"):
                with suppress(OSError):
                    (folder / "d").rename(folder / "d.real")
                    (folder / "d").symlink_to(outside)
                    (folder / "d").unlink()
                    (folder / "d.real").rename(folder / "d")

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        with suppress(CrispError):
            await store.unpack(tar)
    finally:
        ended.set()
        swapping.join()
    assert os.listdir(outside) == []


@pytest.mark.parametrize(
    "name",
    ["a/" * 300 + "f", "n" * 256, "/".join(["n" * 200] * 21)],
    ids=["deep", "long name", "long path"],
)
async def test_names_and_paths_beyond_the_limits(store: Store, name: str) -> None:
    with pytest.raises(InvalidInput):
        await store.unpack(Tar().add(name))
    assert os.listdir(store.paths.layers) == []


async def test_links_that_add_up_to_more_than_a_path_can_have(store: Store) -> None:
    tar, name = Tar(), "n" * 240
    for depth in range(20):
        tar.folder("/".join([name] * (depth + 1)) if depth < 16 else f"d{depth}")
    tar.link("l", "/".join([name] * 16))
    for number in range(20):
        tar.link("l/" * (number + 1) + "l", "l") if not number else tar.folder("l/" + "/".join([name] * 10))
    with suppress(InvalidInput):
        await store.unpack(tar)
    assert store.left_over() == []


def record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.USTAR_FORMAT)


def blocks(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


async def test_a_size_that_two_headers_disagree_on_is_read_as_other_tars_read_it(store: Store, tmp_path: Path) -> None:
    inner = header("smuggled", 0)
    pax = record(b"size", b"512")
    data = header("pax", len(pax), b"x") + blocks(pax) + header("outer", 0) + inner + header("last", 0) + bytes(1024)
    (tmp_path / "a.tar").write_bytes(data)
    listed = subprocess.run(["tar", "-tf", str(tmp_path / "a.tar")], capture_output=True, text=True, check=True)
    diff = store.diff(await store.unpack(data))
    assert sorted(os.listdir(diff)) == sorted(listed.stdout.split()) == ["last", "outer"]
    assert (diff / "outer").read_bytes() == inner
    with tarfile.open(tmp_path / "a.tar") as other:
        assert sorted(other.getnames()) == ["last", "outer"]


async def test_a_million_records_and_a_gibibyte_of_them(store: Store) -> None:
    many = record(b"a", b"") * 150_000
    tar = header("pax", len(many), b"x") + blocks(many) + header("f", 0) + bytes(1024)
    assert os.listdir(store.diff(await store.unpack(tar))) == ["f"]
    with pytest.raises(InvalidInput, match="extended header of"):
        await store.unpack(header("pax", 1 << 30, b"x"))


async def test_a_long_run_of_zeros_takes_no_memory_and_no_space(store: Store) -> None:
    layer = store.blob(Tar().add("f", b"x").bytes() + bytes(40 << 20))
    await store.unpack_layer(layer)
    assert (store.diff(layer.diff_id).parent / "skeleton").stat().st_size < 1 << 20
    found = await store.service.check(CheckRequest(diff_id=layer.diff_id), CALL)
    assert found.state is LayerState.WHOLE


def frames(plain: bytes) -> bytes:
    packer = zstandard.ZstdCompressor()
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"extra"
    return skippable + b"".join(packer.compress(plain[at : at + 100]) for at in range(0, len(plain), 100)) + skippable


async def test_thousands_of_frames_and_frames_to_be_skipped(store: Store) -> None:
    layer = store.blob(Tar().add("f", os.urandom(100_000)).bytes(), media_type=ZSTD, pack=frames)
    await store.unpack_layer(layer)
    assert (store.diff(layer.diff_id) / "f").stat().st_size == 100_000


@pytest.mark.parametrize(
    "pack",
    [
        lzma.compress,
        bz2.compress,
        lambda tar: gzip.compress(tar) + b"garbage",
        lambda tar: gzip.compress(tar)[:-8] + b"\0" * 8,
        lambda tar: gzip.compress(gzip.compress(tar)),
    ],
    ids=["xz", "bzip2", "trailing garbage", "wrong checksum", "packed twice"],
)
async def test_other_than_it_says(store: Store, pack: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Corrupt):
        await store.unpack_layer(store.blob(Tar().add("a", b"x" * 9999).bytes(), pack=pack))
    assert os.listdir(store.paths.layers) == []


async def test_a_bomb(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousand to one is what gzip can do; what a layer may take goes by its blob from some size on."""
    assert most_bytes(1 << 20, store.config.storage) == 64 << 20
    large = replace(store.config.storage, max_layer_bytes=1 << 40)
    assert most_bytes(1 << 20, large) == 1 << 30
    assert most_bytes(100 << 20, large) == 200 * (100 << 20)
    monkeypatch.setattr("services.storage.layers.blob._FREE_BYTES", 1 << 20)
    config = replace(store.config, storage=large)
    service = await create(config)
    try:
        with pytest.raises(ResourceExhausted, match="max_layer_ratio"):
            await Store(service, config).unpack(Tar().add("a", bytes(30 << 20)))
    finally:
        await service.close()
    assert os.listdir(store.paths.layers) == []


async def test_an_opaque_mark_after_its_neighbours_and_through_a_link(store: Store) -> None:
    tar = Tar().folder("d").add("d/kept").add("d/.wh..wh..opq").folder("e").link("l", "e").add("l/.wh..wh..opq")
    lowest = await store.unpack(Tar().add("d/old").add("e/old").add("l/old"))
    upper = await store.unpack(tar)
    _, root = await store.mount(lowest, upper)
    assert os.listdir(root / "d") == ["kept"]
    assert os.listdir(root / "e") == []


async def test_the_overlays_own_marks_do_not_come_in(store: Store) -> None:
    secret = await store.unpack(Tar().folder("secret", mode=0o700).add("secret/file", b"s").add("f", b"data"))
    marks = {
        "trusted.overlay.redirect": "/secret", "trusted.overlay.opaque": "y", "trusted.overlay.metacopy": "",
        "trusted.overlay.origin": "x", "user.overlay.redirect": "/secret", "user.overlay.opaque": "y",
        "user.overlay.whiteout": "", "security.overlay": "x",
    }  # fmt: skip
    headers = {f"SCHILY.xattr.{name}": value for name, value in marks.items()}
    headers |= {f"LIBARCHIVE.xattr.{name}": value for name, value in marks.items()}
    upper = await store.unpack(Tar().folder("d", pax_headers=headers).add("f", b"", pax_headers=headers))
    for name in ("d", "f"):
        assert os.listxattr(store.diff(upper) / name) == []
    _, root = await store.mount(secret, upper)
    assert os.listdir(root / "d") == []
    assert (root / "f").read_bytes() == b""
    options = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(root) in line)
    assert "userxattr" not in options
    for option in ("redirect_dir=nofollow", "metacopy=off", "index=off"):
        assert option in options or f"{option.partition('=')[0]}=on" not in options


async def test_attributes_beyond_what_a_file_can_have(store: Store) -> None:
    tar = Tar().add("f", pax_headers={"SCHILY.xattr.user.big": "x" * 70_000})
    with pytest.raises((InvalidInput, ResourceExhausted), match="'f'"):
        await store.unpack(tar)
    assert os.listdir(store.paths.layers) == []


async def test_files_that_change_whom_they_run_as_are_out_of_everybodys_reach(store: Store) -> None:
    diff = store.diff(await store.unpack(Tar().add("su", b"x", mode=0o4755)))
    assert stat.S_IMODE((diff / "su").stat().st_mode) == 0o4755
    probe = "import os, sys; os.setgid(65534); os.setuid(65534); os.stat(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", probe, str(diff / "su")], capture_output=True, text=True, check=False)
    assert "Permission denied" in done.stderr


async def test_names_that_options_of_mounts_would_stumble_over(store: Store) -> None:
    names = ["-rf", "a:b", "c,d", "e\\f", "g\nh", "i j", "upperdir=x", "k\udcff"]
    tar = Tar()
    for name in names:
        tar.folder(f"{name}.d").add(f"{name}.d/{name}", b"x")
    _, root = await store.mount(await store.unpack(tar))
    assert sorted(os.listdir(root)) == sorted(f"{name}.d" for name in names)
    assert all((root / f"{name}.d" / name).read_bytes() == b"x" for name in names)


async def test_one_blob_for_two_layers_of_which_one_lies(store: Store) -> None:
    right = store.blob(Tar().add("a", b"x" * 500_000).bytes())
    wrong = Layer(blob=right.blob, diff_id=DiffId(Digest("sha256:" + "0" * 64)))
    done = await asyncio.gather(store.unpack_layer(right), store.unpack_layer(wrong), return_exceptions=True)
    assert isinstance(done[1], Corrupt)
    assert not isinstance(done[0], BaseException)
    assert os.listdir(store.paths.layers) == [right.diff_id.removeprefix("sha256:")]
    assert sha256((store.diff(right.diff_id) / "a").read_bytes()) == sha256(b"x" * 500_000)
