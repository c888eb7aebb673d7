"""Entries that need no capability; devices, owners and file capabilities are in the integration tests."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.errors import InvalidInput
from kernel.formats.tar_header import Kind
from services.storage.tar import makers
from services.storage.tar.pipe_source import Stream
from services.storage.tar.reader import Entry

OWN = {"uid": os.getuid(), "gid": os.getgid(), "mtime_ns": 1_500_000_000_000_000_000}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_a_file_looks_as_its_entry(root: int, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"hello, and more")
    os.close(write)
    makers.make_file(root, b"f", Entry(Kind.FILE, b"f", size=5, mode=0o640, **OWN), Stream(read))
    os.close(read)
    status = (tmp_path / "f").stat()
    assert (tmp_path / "f").read_bytes() == b"hello"
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o640, OWN["mtime_ns"])


def test_a_name_that_is_taken(root: int, tmp_path: Path) -> None:
    (tmp_path / "f").symlink_to("elsewhere")
    for make, kind in ((makers.make_symlink, Kind.SYMLINK), (makers.make_node, Kind.FIFO)):
        with pytest.raises(FileExistsError):
            make(root, b"f", Entry(kind, b"f", b"x", **OWN))
    assert os.readlink(tmp_path / "f") == "elsewhere"


def test_links_and_fifos(root: int, tmp_path: Path) -> None:
    makers.make_symlink(root, b"l", Entry(Kind.SYMLINK, b"l", b"/etc/passwd", **OWN))
    makers.make_node(root, b"p", Entry(Kind.FIFO, b"p", mode=0o622, **OWN))
    assert os.readlink(tmp_path / "l") == "/etc/passwd"
    assert (tmp_path / "l").lstat().st_mtime_ns == OWN["mtime_ns"]
    assert (tmp_path / "p").stat().st_mode == stat.S_IFIFO | 0o622


def test_a_hard_link_links_what_is_there_and_follows_nothing(root: int, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "l").symlink_to("/etc/passwd")
    entry = Entry(Kind.HARD_LINK, b"h", b"d/l")
    assert not makers.is_linked(root, root, b"h", entry)
    makers.make_hard_link(root, root, b"h", entry)
    assert makers.is_linked(root, root, b"h", entry)
    assert (tmp_path / "h").is_symlink()


@pytest.mark.parametrize("target", [b"/", b"d", b"none", b"none/x", b"../x"])
def test_a_hard_link_to_what_is_none(root: int, tmp_path: Path, target: bytes) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(InvalidInput):
        makers.make_hard_link(root, root, b"h", Entry(Kind.HARD_LINK, b"h", target))
    assert os.listdir(tmp_path) == ["d"]
