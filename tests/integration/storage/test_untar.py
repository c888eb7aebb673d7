"""Layers made by the real child, as root: everything kept, hidden as the image says, and nothing else reached."""

from __future__ import annotations

import os
import stat
import tarfile

import pytest

from kernel.errors import InvalidInput
from tests.integration.storage.conftest import Store, Tar

V2 = "\x01\x00\x00\x02" + "\x00" * 16


async def test_everything_of_an_entry_is_kept(store: Store) -> None:
    tar = Tar().folder("./", mode=0o751, uid=7).folder("d", mode=0o2775, uid=5, gid=6, mtime=1_600_000_000)
    tar.add("d/f", b"hello", mode=0o4755, uid=1000, gid=1001, pax_headers={"mtime": "1600000000.5"})
    tar.link("d/hard", "d/f", tarfile.LNKTYPE).link("d/soft", "/no/where")
    tar.add("d/null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    tar.add("d/disk", kind=tarfile.BLKTYPE, devmajor=8, devminor=300, mode=0o660)
    tar.add("d/pipe", kind=tarfile.FIFOTYPE, mode=0o622)
    tar.add(
        "d/capable",
        b"x" * 3_000_000,
        mode=0o755,
        pax_headers={
            "SCHILY.xattr.security.capability": V2,
            "SCHILY.xattr.user.note": "kept",
            "SCHILY.xattr.trusted.overlay.opaque": "y",
            "SCHILY.xattr.user.overlay.opaque": "y",
            "SCHILY.xattr.trusted.other": "y",
        },
    )
    diff = store.diff(await store.unpack(tar))
    root, folder, file = diff.stat(), (diff / "d").stat(), (diff / "d/f").stat()
    assert (stat.S_IMODE(root.st_mode), root.st_uid) == (0o751, 7)
    assert (stat.S_IMODE(folder.st_mode), folder.st_uid, folder.st_gid) == (0o2775, 5, 6)
    assert folder.st_mtime == 1_600_000_000
    assert (stat.S_IMODE(file.st_mode), file.st_uid, file.st_gid, file.st_nlink) == (0o4755, 1000, 1001, 2)
    assert file.st_mtime_ns == 1_600_000_000_500_000_000
    assert (diff / "d/hard").read_bytes() == b"hello"
    assert os.readlink(diff / "d/soft") == "/no/where"
    null, disk, pipe = ((diff / "d" / name).lstat() for name in ("null", "disk", "pipe"))
    assert (stat.S_ISCHR(null.st_mode), null.st_rdev, stat.S_IMODE(null.st_mode)) == (True, os.makedev(1, 3), 0o666)
    assert (stat.S_ISBLK(disk.st_mode), disk.st_rdev, stat.S_IMODE(disk.st_mode)) == (True, os.makedev(8, 300), 0o660)
    assert (stat.S_ISFIFO(pipe.st_mode), stat.S_IMODE(pipe.st_mode)) == (True, 0o622)
    assert sorted(os.listxattr(diff / "d/capable")) == ["security.capability", "user.note"]
    assert (diff / "d/capable").stat().st_size == 3_000_000


async def test_sizes_are_those_of_the_files(store: Store) -> None:
    tar = Tar().folder("a").add("a/one", b"x" * 5000).add("a/two", b"y").link("a/three", "a/one", tarfile.LNKTYPE)
    usage = await store.unpack_layer(store.blob(tar.bytes()))
    assert (usage.bytes, usage.inodes) == (8192 + 4096 + 4096, 4)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
async def test_long_names_in_other_formats(store: Store, form: int) -> None:
    name = "a" * 80 + "/" + "b" * 90
    diff = store.diff(await store.unpack(Tar(form).add(name, b"x")))
    assert (diff / name).read_bytes() == b"x"


async def test_an_empty_layer(store: Store) -> None:
    diff = store.diff(await store.unpack(Tar()))
    assert list(diff.iterdir()) == []


async def test_whiteouts_become_the_overlays_own(store: Store) -> None:
    tar = Tar().folder("d").add("d/new", b"x").add("d/.wh..wh..opq").add("d/.wh.gone").add("e/.wh.gone").add(".wh.top")
    diff = store.diff(await store.unpack(tar))
    assert os.getxattr(diff / "d", "trusted.overlay.opaque") == b"y"
    assert not os.path.lexists(diff / "d/gone")  # the opaque folder hides it already
    for hidden in ("e/gone", "top"):
        status = (diff / hidden).lstat()
        assert stat.S_ISCHR(status.st_mode)
        assert status.st_rdev == 0
    assert (diff / "d/new").read_bytes() == b"x"
    assert not (diff / "d/.wh..wh..opq").exists()


async def test_aufs_leftovers_are_left_out(store: Store) -> None:
    tar = Tar().add(".wh..wh.aufs").folder(".wh..wh.plnk").add(".wh..wh.plnk/1.2").add("kept")
    assert os.listdir(store.diff(await store.unpack(tar))) == ["kept"]


async def test_hidden_and_made_anew_in_one_layer(store: Store) -> None:
    tar = Tar().add(".wh.d").folder("d").add("d/x").add(".wh.f").add("f", b"new").add(".wh.g").add("g/below")
    tar.folder("h").add(".wh.h").add("i", b"i").add(".wh.i")
    diff = store.diff(await store.unpack(tar))
    for opaque in ("d", "g", "h"):  # nothing of the layers below may show through
        assert os.getxattr(diff / opaque, "trusted.overlay.opaque") == b"y"
    assert (diff / "f").read_bytes() == b"new"
    assert (diff / "i").read_bytes() == b"i"  # a whiteout hides what is in other layers only


async def test_later_entries_replace_earlier_ones(store: Store) -> None:
    tar = Tar().folder("a").add("a/inside", b"old").add("a", b"now a file")
    tar.add("b", b"file").folder("b").add("b/inside", b"new")
    tar.link("c", "/etc").folder("c").add("c/passwd", b"not the host's")
    tar.add("d", b"1").add("d", b"22").add("e", b"e").link("e", "e", tarfile.LNKTYPE)
    layer = store.blob(tar.bytes())
    usage = await store.unpack_layer(layer)
    diff = store.diff(layer.diff_id)
    assert (diff / "a").read_bytes() == b"now a file"
    assert (diff / "b/inside").read_bytes() == b"new"
    assert (diff / "c/passwd").read_bytes() == b"not the host's"
    assert not (diff / "c").is_symlink()
    assert (diff / "d").read_bytes() == b"22"
    assert (diff / "e").read_bytes() == b"e"
    assert usage.inodes == 1 + 7


async def test_links_are_followed_within_the_layer_only(store: Store) -> None:
    tar = Tar().folder("usr/lib").link("lib", "usr/lib").add("lib/inside", b"1")
    tar.link("abs", "/usr/lib").add("abs/absolute", b"2").link("up", "../../../../usr").add("up/above", b"3")
    tar.link("lib/hard", "lib/inside", tarfile.LNKTYPE).add("lib/.wh.hidden")
    diff = store.diff(await store.unpack(tar))
    assert (diff / "usr/lib/inside").stat().st_nlink == 2
    assert (diff / "usr/lib/absolute").read_bytes() == b"2"
    assert (diff / "usr/above").read_bytes() == b"3"
    assert stat.S_ISCHR((diff / "usr/lib/hidden").lstat().st_mode)


async def test_a_hard_link_to_a_link_links_the_link(store: Store) -> None:
    tar = Tar().link("a", "/etc/passwd").link("b", "a", tarfile.LNKTYPE)
    diff = store.diff(await store.unpack(tar))
    assert (diff / "b").is_symlink()


HOSTILE = {
    "climbs": Tar().add("../x", b"x"),
    "climbs inside": Tar().add("a/../../x", b"x"),
    "hard link climbs": Tar().link("a", "../../../etc/passwd", tarfile.LNKTYPE),
    "hard link to the host": Tar().link("a", "/etc/passwd", tarfile.LNKTYPE),
    "hard link through a link": Tar().link("e", "/etc").link("a", "e/passwd", tarfile.LNKTYPE),
    "hard link to a folder": Tar().folder("d").link("a", "d", tarfile.LNKTYPE),
    "hard link to a later entry": Tar().link("a", "b", tarfile.LNKTYPE).add("b"),
    "hard link to a whiteout": Tar().add(".wh.b").link("a", "b", tarfile.LNKTYPE),
    "hard link to the root": Tar().link("a", "/", tarfile.LNKTYPE),
    "below a dangling link": Tar().link("out", "/nowhere").add("out/x", b"x"),
    "below a link to itself": Tar().link("me", "me").add("me/x", b"x"),
    "below a file": Tar().add("f", b"x").add("f/x", b"x"),
    "overlay whiteout": Tar().add("w", kind=tarfile.CHRTYPE, devmajor=0, devminor=0),
    "root is a link": Tar().link("./", "/"),
    "root is closed": Tar().folder("./", mode=0),
    "whiteout of the parent": Tar().add("a/.wh..."),
    "sparse": Tar().add("s", b"x", kind=tarfile.GNUTYPE_SPARSE),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_tars_are_refused_and_leave_nothing(store: Store, name: str) -> None:
    layer = store.blob(HOSTILE[name].bytes())
    with pytest.raises(InvalidInput) as caught:
        await store.unpack_layer(layer)
    assert "entry" in caught.value.message or "entries" in caught.value.message
    assert os.listdir(store.paths.layers) == []


async def test_a_tree_as_deep_as_allowed(store: Store) -> None:
    name = "/".join(["d"] * 254)
    diff = store.diff(await store.unpack(Tar().add(name + "/f", b"x").link("l", name).add("l/" + name + "/g", b"x")))
    assert (diff / "l").is_symlink()
