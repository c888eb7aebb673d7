"""A check reads every file of a layer: whatever is otherwise than its tar says is found, by the real child."""

from __future__ import annotations

import os
import stat
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.contracts.storage import CheckRequest, LayerState
from kernel.errors import CrispError
from kernel.ids import DiffId
from services.storage.tar.pipe_source import Stream
from services.storage.tar.skeleton import Rebuilt, Writer
from services.storage.tar.untar import Extraction
from services.storage.tar.verify import Examination
from tests.integration.storage.conftest import CALL, Store, Tar


def everything() -> Tar:
    tar = Tar().folder("./", mode=0o751).folder("d", mode=0o2775, uid=5, gid=6)
    tar.add("d/f", b"hello" * 1000, mode=0o4755, uid=1000, pax_headers={"SCHILY.xattr.user.note": "kept"})
    tar.add("big", os.urandom(200_000)).add("empty").link("hard", "d/f", tarfile.LNKTYPE).link("soft", "/no/where")
    tar.add("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3).add("pipe", kind=tarfile.FIFOTYPE)
    tar.add("implied/by/this", b"x").add(".wh.gone").folder("o").add("o/.wh..wh..opq").add("o/.wh.needless")
    return tar.folder("both").add(".wh.both").add(".wh..wh.plnk/inside", b"dropped data")


def unmark(folder: Path) -> None:
    os.removexattr(folder, "trusted.overlay.opaque")


def replace(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"hello" * 1000)


TAR = everything().bytes()
INODES = 14
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte": (lambda diff: os.pwrite(os.open(diff / "big", os.O_WRONLY), b"!", 100_000), "another tar"),
    "a byte of the size": (lambda diff: os.truncate(diff / "big", 199_999), "199999 bytes"),
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
    "whiteout": (lambda diff: (diff / "gone").unlink(), "not hidden"),
    "skeleton": (lambda diff: os.truncate(diff.parent / "skeleton", 100), ""),
    "garbled skeleton": (lambda diff: (diff.parent / "skeleton").write_bytes(b"x" * 999), "decompress"),
}


@pytest.fixture
def diff(tmp_path: Path) -> Path:
    """The layer's files, made by this process."""
    made = tmp_path / "layer" / "diff"
    made.mkdir(parents=True)
    skeleton = os.open(made.parent / "skeleton", os.O_WRONLY | os.O_CREAT)
    with tempfile.TemporaryFile() as tar:
        tar.write(TAR)
        tar.seek(0)
        root = os.open(made, os.O_RDONLY)
        kept = Writer(skeleton)
        Extraction(root, 1000).run(Stream(tar.fileno(), kept))
        kept.end()
        os.close(root)
        os.close(skeleton)
    return made


def examined(diff: Path) -> str:
    """What is wrong with it, by this process too."""
    root, skeleton = os.open(diff, os.O_RDONLY), os.open(diff.parent / "skeleton", os.O_RDONLY)
    with tempfile.TemporaryFile() as output:
        try:
            found = Examination(root).run(Rebuilt(skeleton, output.fileno()))
        except CrispError as error:  # as the child reports it
            return error.message
        finally:
            os.close(root)
            os.close(skeleton)
        output.seek(0)
        if output.read() != TAR:
            return "they give another tar"
    assert found.opaque == ["both", "o"]
    return "" if found.inodes == INODES else f"{found.inodes} instead of {INODES}"


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_is_found(diff: Path, name: str) -> None:
    assert examined(diff) == ""
    damage, word = DAMAGES[name]
    damage(diff)
    assert word in examined(diff)
    assert examined(diff)


async def state(store: Store, diff_id: DiffId) -> tuple[LayerState, str]:
    found = await store.service.check(CheckRequest(diff_id=diff_id), CALL)
    return found.state, found.why


@pytest.mark.parametrize("damage", ["a byte", "more", "opaque mark", "opaque mark of a hidden one", "no skeleton"])
async def test_by_the_real_child(store: Store, damage: str) -> None:
    diff_id = await store.unpack(TAR)
    assert await state(store, diff_id) == (LayerState.WHOLE, "")
    damages = {
        "opaque mark": lambda diff: unmark(diff / "o"),
        "opaque mark of a hidden one": lambda diff: unmark(diff / "both"),
        "no skeleton": lambda diff: (diff.parent / "skeleton").unlink(),
    }
    (damages.get(damage) or DAMAGES[damage][0])(store.diff(diff_id))
    found, why = await state(store, diff_id)
    assert found is LayerState.DAMAGED
    assert why


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
