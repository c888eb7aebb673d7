"""A check reads every file of a layer: whatever is otherwise than its tar says is found, by the real child."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

from kernel.contracts.storage import CheckRequest, LayerState
from kernel.ids import DiffId
from tests.integration.storage.conftest import CALL, Store, Tar


def everything() -> Tar:
    tar = Tar().folder("./", mode=0o751).folder("d", mode=0o2775, uid=5, gid=6)
    tar.add("d/f", b"hello" * 1000, mode=0o4755, uid=1000, pax_headers={"SCHILY.xattr.user.note": "kept"})
    tar.add("big", os.urandom(3_000_000)).add("empty").link("hard", "d/f", tarfile.LNKTYPE).link("soft", "/no/where")
    tar.add("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3).add("pipe", kind=tarfile.FIFOTYPE)
    tar.add("implied/by/this", b"x").add(".wh.gone").folder("o").add("o/.wh..wh..opq").folder("o")
    return tar.folder("both").add(".wh.both").add(".wh..wh.plnk/inside", b"dropped data")


def unmark(folder: Path) -> None:
    os.removexattr(folder, "trusted.overlay.opaque")


def replace(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"hello" * 1000)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte": (lambda diff: os.pwrite(os.open(diff / "big", os.O_WRONLY), b"!", 2_000_000), "give the tar"),
    "a byte of the size": (lambda diff: os.truncate(diff / "big", 2_999_999), "2999999 bytes"),
    "a longer one": (lambda diff: os.truncate(diff / "empty", 1), "1 bytes instead of 0"),
    "gone": (lambda diff: (diff / "implied/by/this").unlink(), "No such file"),
    "more": (lambda diff: (diff / "d/new").touch(), "instead of"),
    "mode": (lambda diff: (diff / "d/f").chmod(0o755), "another mode"),
    "owner": (lambda diff: os.chown(diff / "d", 5, 7), "another owner"),
    "mode of a folder": (lambda diff: (diff / "d").chmod(0o775), "another mode"),
    "attribute": (lambda diff: os.setxattr(diff / "d/f", "user.note", b"lost"), "user.note"),
    "no attribute": (lambda diff: os.removexattr(diff / "d/f", "user.note"), "d/f"),
    "link": (lambda diff: ((diff / "soft").unlink(), (diff / "soft").symlink_to("/etc")), "leads elsewhere"),
    "hard link": (lambda diff: replace(diff / "hard"), "no link to"),
    "device": (lambda diff: ((diff / "null").unlink(), os.mknod(diff / "null", stat.S_IFCHR | 0o644, 5)), "device"),
    "kind": (lambda diff: ((diff / "pipe").unlink(), (diff / "pipe").touch()), "no fifo"),
    "whiteout": (lambda diff: (diff / "gone").unlink(), "No such file"),
    "opaque mark": (lambda diff: unmark(diff / "o"), "opaque"),
    "opaque mark of a hidden one": (lambda diff: unmark(diff / "both"), "opaque"),
    "skeleton": (lambda diff: os.truncate(diff.parent / "skeleton", 100), ""),
    "no skeleton": (lambda diff: (diff.parent / "skeleton").unlink(), "skeleton"),
    "garbled skeleton": (lambda diff: (diff.parent / "skeleton").write_bytes(b"x" * 999), "decompress"),
}


async def state(store: Store, diff_id: DiffId) -> tuple[LayerState, str]:
    found = await store.service.check(CheckRequest(diff_id=diff_id), CALL)
    return found.state, found.why


async def test_every_damage_is_found(store: Store) -> None:
    tar = everything().bytes()
    for name, (damage, word) in DAMAGES.items():
        diff_id = await store.unpack(tar)
        assert await state(store, diff_id) == (LayerState.WHOLE, ""), name
        damage(store.diff(diff_id))
        found, why = await state(store, diff_id)
        assert found is LayerState.DAMAGED, name
        assert word in why, f"{name}: {why}"
        await store.service.check(CheckRequest(diff_id=diff_id, drop=True), CALL)
        assert store.service._layers.find(diff_id) is None


async def test_what_follows_the_archive_is_part_of_it(store: Store) -> None:
    diff_id = await store.unpack(Tar().add("a", b"x").bytes() + b"trailing" * 100_000)
    assert await state(store, diff_id) == (LayerState.WHOLE, "")


async def test_a_tar_that_names_a_file_twice_is_only_counted(store: Store) -> None:
    diff_id = await store.unpack(Tar().add("a", b"1").add("a", b"22").add("b"))
    found, why = await state(store, diff_id)
    assert found is LayerState.UNPROVEN
    assert "counted" in why
    (store.diff(diff_id) / "b").unlink()
    assert (await state(store, diff_id))[0] is LayerState.DAMAGED
