"""What tar entries mean in an overlay, and which are refused."""

from __future__ import annotations

import pytest

from kernel.errors import InvalidInput
from kernel.formats.tar_header import Kind
from services.storage.tar.reader import Entry
from services.storage.tar.whiteout import Action, decide, keeps_xattr, locate

P = b"p"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (b"a", (b"", b"a")),
        (b"./a//b/", (b"a", b"b")),
        (b"/etc/passwd", (b"etc", b"passwd")),
        (b"./", (b"", b"")),
        (b"/", (b"", b"")),
        (b"a/b/c", (b"a/b", b"c")),
        (b"...", (b"", b"...")),
        (b"-rf\n:,\\", (b"", b"-rf\n:,\\")),
        (b"\xff\xfe", (b"", b"\xff\xfe")),
    ],
)
def test_places(path: bytes, place: tuple[bytes, bytes]) -> None:
    assert locate(path) == place


@pytest.mark.parametrize(
    "path",
    [b"..", b"../a", b"a/../b", b"a/..", b"/../../etc", b"a" * 256, b"a/" * 257 + b"b", b"ab/" * 1400, b"a\0b"],
)
def test_places_that_are_refused(path: bytes) -> None:
    with pytest.raises(InvalidInput):
        locate(path)


@pytest.mark.parametrize(
    ("path", "action", "parent", "name"),
    [
        (b"d/.wh.gone", Action.HIDE, b"d", b"gone"),
        (b".wh.gone", Action.HIDE, b"", b"gone"),
        (b"d/.wh..wh..opq", Action.OPAQUE, b"d", b".wh..wh..opq"),
        (b".wh..wh..opq", Action.OPAQUE, b"", b".wh..wh..opq"),
        (b".wh..wh.plnk", Action.SKIP, b"", b".wh..wh.plnk"),
        (b".wh..wh.plnk/1.2", Action.SKIP, b".wh..wh.plnk", b"1.2"),
        (b"d/.wh..wh.aufs", Action.SKIP, b"d", b".wh..wh.aufs"),
        (b"d/x.wh.y", Action.MAKE, b"d", b"x.wh.y"),
    ],
)
def test_whiteouts(path: bytes, action: Action, parent: bytes, name: bytes) -> None:
    assert decide(Entry(Kind.FILE, path)) == (action, parent, name)


def test_a_whiteout_of_aufs_may_be_a_hard_link() -> None:
    assert decide(Entry(Kind.HARD_LINK, b"a/.wh.b", link=b".wh..wh.plnk/1")).action is Action.HIDE


@pytest.mark.parametrize(
    "entry",
    [
        Entry(Kind.FILE, b"a/.wh."),
        Entry(Kind.FILE, b"a/.wh.."),
        Entry(Kind.FILE, b"a/.wh..."),
        Entry(Kind.DIRECTORY, b"a/.wh.b"),
        Entry(Kind.FILE, b".wh.a/b"),
        Entry(Kind.SYMLINK, b"./", link=b"/"),
        Entry(Kind.FILE, b"."),
        Entry(Kind.DIRECTORY, b"./", mode=0),
        Entry(Kind.CHARACTER, b"a", major=0, minor=0),
        Entry(Kind.CHARACTER, b"a", major=4096, minor=0),
        Entry(Kind.BLOCK, b"a", major=8, minor=-1),
        Entry(Kind.BLOCK, b"a", major=8, minor=1 << 20),
        Entry(Kind.SYMLINK, b"a", link=b""),
        Entry(Kind.SYMLINK, b"a", link=b"x" * 4096),
    ],
)
def test_entries_that_are_refused(entry: Entry) -> None:
    with pytest.raises(InvalidInput):
        decide(entry)


def test_the_root_itself_is_a_directory() -> None:
    assert decide(Entry(Kind.DIRECTORY, b"./", mode=0o755)) == (Action.MAKE, b"", b"")


V2 = b"\x01\x00\x00\x02" + bytes(16)
V3 = b"\x01\x00\x00\x03" + bytes(20)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        (b"security.capability", V2, True),
        (b"security.capability", V3, True),
        (b"user.mime", b"x", True),
        (b"user.overlay.opaque", b"y", False),
        (b"trusted.overlay.opaque", b"y", False),
        (b"trusted.overlay.redirect", b"/", False),
        (b"trusted.x", b"", False),
        (b"security.selinux", b"x", False),
        (b"security.ima", b"x", False),
        (b"system.posix_acl_access", b"x", False),
        (b"user." + b"x" * 300, b"x", False),
    ],
)
def test_attributes(name: bytes, value: bytes, kept: bool) -> None:
    assert keeps_xattr(name, value, P) is kept


@pytest.mark.parametrize("value", [b"", b"\x02", V2[:-1], b"\0\0\0\x09" + bytes(16), V3[:-4] + b"\x01\0\0\0"])
def test_capabilities_that_are_refused(value: bytes) -> None:
    with pytest.raises(InvalidInput, match="file capabilities"):
        keeps_xattr(b"security.capability", value, P)
