"""A folder's tree as a tar. What overlays mark is in the integration tests, on overlays."""

from __future__ import annotations

import os
from pathlib import Path

from services.storage.checkpoints.diff import Diff
from services.storage.tar.reader import Entry, entries
from tests.unit.services.storage.tar.test_reader import Bytes


def read(upper: Path, out: Path) -> list[Entry]:
    with out.open("wb") as file:
        assert Diff(upper, [], file).write() == []
    return list(entries(Bytes(out.read_bytes())))


def test_files_with_many_names_links_and_sockets(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "a" / "b").mkdir(parents=True)
    (upper / "a" / "one").write_bytes(b"x" * 1000)
    os.link(upper / "a" / "one", upper / "a" / "two")
    os.link(upper / "a" / "one", upper / "a" / "b" / "three")
    (upper / "away").symlink_to("/etc/passwd")
    os.mknod(upper / "socket", 0o140644)
    found = {entry.path: entry for entry in read(upper, tmp_path / "tar")}
    assert set(found) == {b"a/", b"a/b/", b"a/one", b"a/two", b"a/b/three", b"away"}
    assert (found[b"a/one"].size, found[b"a/two"].link, found[b"a/b/three"].link) == (1000, b"a/one", b"a/one")
    assert found[b"away"].link == b"/etc/passwd"


def test_an_empty_layer(tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir()
    assert read(tmp_path / "upper", tmp_path / "tar") == []


def test_large_files_are_whole(tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir()
    data = os.urandom(3 << 20)
    (tmp_path / "upper" / "large").write_bytes(data)
    assert [entry.size for entry in read(tmp_path / "upper", tmp_path / "tar")] == [len(data)]
    assert data in (tmp_path / "tar").read_bytes()
