"""Ways out of the root that tar extractors have fallen for, under the names by which they are known.

A layer of the test is one tar; where a case is about what an earlier layer has, the earlier entries come first in the
same tar, or lie in a layer below. Each case either gives what is right within the root or is refused; whatever it
does, a folder outside with a file in it is as it was.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.errors import InvalidInput
from services.storage.tar.pipe_source import Stream
from services.storage.tar.untar import Extraction
from tests.integration.storage.conftest import Store, Tar

HARD = tarfile.LNKTYPE
Add = Callable[[Tar, Path], object]
Holds = Callable[[Path], object]


def etc(tar: Tar, mode: int = 0o755) -> Tar:
    return tar.folder("etc", mode=mode).add("/etc/passwd", b"inside")


def holds(path: str, data: bytes) -> Holds:
    return lambda root: (root / path).read_bytes() == data and not (root / path).is_symlink()


def same(one: str, other: str) -> Holds:
    return lambda root: os.path.samestat((root / one).lstat(), (root / other).lstat())


IN_ROOT: dict[str, tuple[Add, Holds]] = {
    "SymlinkAbsolute": (
        lambda tar, _: tar.folder("etc").link("localetc", "/etc").add("/localetc/unbroken", b"u"),
        holds("etc/unbroken", b"u"),
    ),
    "SymlinkUpAndOut": (
        lambda tar, _: tar.folder("etc").folder("dummy").link("localetc", "/dummy/../etc").add("/localetc/u", b"u"),
        holds("etc/u", b"u"),
    ),
    "SymlinkMultipleAbsolute": (
        lambda tar, _: tar.folder("etc").folder("dummy").link("/dummy/etc", "/etc").link("l", "/dummy/etc").add("l/u"),
        holds("etc/u", b""),
    ),
    "SymlinkMultipleRelative": (
        lambda tar, _: tar.folder("etc").folder("dummy").link("/dummy/etc", "/etc").link("l", "./dummy/etc").add("l/u"),
        holds("etc/u", b""),
    ),
    "SymlinkEmptyFile": (
        lambda tar, _: tar.folder("etc").add("etc/e", b"not empty").link("localetc", "/etc").add("/localetc/e"),
        holds("etc/e", b""),
    ),
    "HardlinkRelative": (
        lambda tar, _: etc(tar).link("breakouts/d1", "../../etc").link("breakouts/my", "/breakouts/d1/passwd", HARD),
        same("breakouts/my", "etc/passwd"),
    ),
    "HardlinkDownAndOut": (
        lambda tar, _: etc(tar).folder("down").link("b/d1", "../down/../../etc").link("b/my", "/b/d1/passwd", HARD),
        same("b/my", "etc/passwd"),
    ),
    "HardlinkAbsolute": (
        lambda tar, _: etc(tar).link("localetc", "/etc").link("localpasswd", "/localetc/passwd", HARD),
        same("localpasswd", "etc/passwd"),
    ),
    "HardlinkRelativeLong": (
        lambda tar, _: etc(tar).link("localetc", "../../../../../../../etc").link("l", "/localetc/passwd", HARD),
        same("l", "etc/passwd"),
    ),
    "HardlinkRelativeUpAndOut": (
        lambda tar, _: etc(tar).folder("up").link("localetc", "up/../../../etc").link("l", "/localetc/passwd", HARD),
        same("l", "etc/passwd"),
    ),
    "HardlinkDirectAbsolute": (
        lambda tar, _: etc(tar).link("localpasswd", "/etc/passwd", HARD),
        same("localpasswd", "etc/passwd"),
    ),
    "SymlinkSlashEnded": (
        lambda tar, _: etc(tar).folder("localetc/").link("/localetc/localpasswd", "/etc/passwd", HARD),
        same("localetc/localpasswd", "etc/passwd"),
    ),
    "SymlinkOverrideDirectory": (
        lambda tar, _: etc(tar).folder("localetc").link("localetc", "/etc").link("/localetc/l", "/etc/passwd", HARD),
        same("etc/l", "etc/passwd"),
    ),
    "SymlinkOverrideDirectoryRelative": (
        lambda tar, _: etc(tar).folder("localetc").link("localetc", "../../etc").link("localetc/l", "etc/passwd", HARD),
        same("etc/l", "etc/passwd"),
    ),
    "DirectoryOverrideSymlink": (
        lambda tar, _: etc(tar).link("localetc", "/etc").folder("/localetc/").link("localetc/l", "/etc/passwd", HARD),
        same("localetc/l", "etc/passwd"),
    ),
    "DirectoryOverrideSymlinkAndHardlink": (
        lambda tar, _: (
            etc(tar).link("le", "etc").link("/le/l", "/etc/passwd", HARD).folder("/le/").add("/le/l", b"different")
        ),
        holds("etc/passwd", b"inside"),
    ),
    "HardlinkSymlinkBeforeCreateTarget": (
        lambda tar, _: tar.folder("etc").link("l", "/etc/passwd").link("dup", "l", HARD).add("/etc/passwd", b"after"),
        same("dup", "l"),
    ),
    "HardlinkSymlinkRelative": (
        lambda tar, _: etc(tar).link("passwdlink", "../../../../../etc/passwd").link("l", "/passwdlink", HARD),
        same("l", "passwdlink"),
    ),
    "HardlinkSymlinkAbsolute": (
        lambda tar, _: etc(tar).link("passwdlink", "/etc/passwd").link("l", "/passwdlink", HARD),
        same("l", "passwdlink"),
    ),
    "HardlinkSymlinkChmod": (
        lambda tar, out: tar.link(f"{out}/e", f"{out}/secret").link("sketchy", f"{out}/e", HARD),
        lambda root: stat.S_ISLNK((root / "sketchy").lstat().st_mode),
    ),
    "a hard link to a link out, then an entry that would change what it leads to": (
        lambda tar, out: (
            tar.link("a", f"{out}/secret").link("b", "a", HARD)
            .add("b", b"x", mode=0o777, uid=1, pax_headers={"SCHILY.xattr.user.note": "x"})
        ),
        holds("b", b"x"),
    ),
    "a folder entry over a link out": (
        lambda tar, out: tar.link("d", str(out)).folder("d", mode=0o777, uid=1).add("d/secret", b"x"),
        holds("d/secret", b"x"),
    ),
    "SymlinkOverridePath": (
        lambda tar, _: tar.add("p", b"file").folder("p").add("p/x").link("p", "q").folder("q").add("p/f", b"f"),
        holds("q/f", b"f"),
    ),
}  # fmt: skip

REFUSED: dict[str, Add] = {
    "HardlinkDirectRelative": lambda tar, _: etc(tar).link("localpasswd", "../../../../../etc/passwd", HARD),
    "SymlinkParentDirectory": lambda tar, _: etc(tar).link("..", "/etc/"),
    "SymlinkEmptyFilename": lambda tar, _: etc(tar).link("", "/etc/"),
    "SymlinkParentRelative": lambda tar, _: etc(tar).link("localetc/sub/..", "/etc/"),
    "WhiteoutRootParent": lambda tar, _: etc(tar).add(".wh..."),
    "WhiteoutParent": lambda tar, _: etc(tar).add("etc/.wh..."),
    "WhiteoutRoot": lambda tar, _: etc(tar).add(".wh.."),
    "WhiteoutCurrentDirectory": lambda tar, _: etc(tar).add("etc/.wh.."),
    "WhiteoutOfNothing": lambda tar, _: etc(tar).add("etc/.wh."),
    "WhiteoutDirectoryName": lambda tar, _: etc(tar).add(".wh.etc/somefile", b"x"),
    "WhiteoutRelativePath": lambda tar, _: etc(tar).add("dne/../.wh.etc"),
    "the root as a link": lambda tar, out: tar.link("./", str(out)).add("secret", b"x"),
    "a hard link to the folder outside": lambda tar, out: tar.link("l", str(out), HARD),
    "a hard link to a file outside": lambda tar, out: tar.link("l", f"{out}/secret", HARD),
    "a hard link through a link out": lambda tar, out: tar.link("o", str(out)).link("l", "o/secret", HARD),
    "below a link out": lambda tar, out: tar.link("o", str(out)).add("o/new", b"x"),
    "a whiteout below a link out": lambda tar, out: tar.link("o", str(out)).add("o/.wh.secret"),
    "an opaque mark below a link out": lambda tar, out: tar.link("o", str(out)).add("o/.wh..wh..opq"),
    "a chain of links out": lambda tar, out: tar.link("a", "b").link("b", str(out)).folder("a/made"),
}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir(mode=0o700)
    (folder / "secret").write_bytes(b"canary")
    (folder / "secret").chmod(0o400)
    return folder


def unchanged(outside: Path) -> bool:
    status = (outside / "secret").lstat()
    return (
        os.listdir(outside) == ["secret"]
        and (outside / "secret").read_bytes() == b"canary"
        and (stat.S_IMODE(status.st_mode), status.st_uid, status.st_nlink) == (0o400, 0, 1)
        and not os.listxattr(outside / "secret")
        and stat.S_IMODE(outside.stat().st_mode) == 0o700
    )


def extracted(tar: Tar, folder: Path) -> Path:
    """The tar's files, made by this process in a folder: without the child's changed root, which would help."""
    folder.mkdir()
    read, write = os.pipe()
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        data = tar.bytes()
        assert len(data) <= 1 << 16  # what a pipe holds
        os.write(write, data)
        os.close(write)
        Extraction(root, 1000).run(Stream(read))
    finally:
        os.close(read)
        os.close(root)
    return folder


@pytest.mark.parametrize("name", IN_ROOT)
def test_what_is_right_within_the_root(tmp_path: Path, outside: Path, name: str) -> None:
    add, right = IN_ROOT[name]
    tar = Tar()
    add(tar, outside)
    assert right(extracted(tar, tmp_path / "root"))
    assert unchanged(outside)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path: Path, outside: Path, name: str) -> None:
    tar = Tar()
    REFUSED[name](tar, outside)
    with pytest.raises(InvalidInput):
        extracted(tar, tmp_path / "root")
    assert unchanged(outside)


async def test_whiteouts_of_what_a_layer_below_has(store: Store) -> None:
    base = etc(Tar()).add("/etc/whitedout", b"w").link("localetc", "/etc").link("dead", "/dne")
    lowest = await store.unpack(base)
    symlink = await store.unpack(Tar().add(".wh.localetc"))  # WhiteoutSymlink
    _, root = await store.mount(lowest, symlink)
    assert (root / "etc/passwd").read_bytes() == b"inside"
    assert not os.path.lexists(root / "localetc")
    for path in ("localetc/.wh.whitedout", "dead/.wh.etc"):  # WhiteoutSymlinkPath, WhiteoutDeadSymlinkParent
        _, root = await store.mount(lowest, await store.unpack(Tar().add(path)))
        assert sorted(os.listdir(root / "etc")) == ["passwd", "whitedout"]
        assert os.listdir(root / path.partition("/")[0]) == []
