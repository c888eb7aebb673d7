"""The user and group files of a root that lays traps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.errors import FailedPrecondition
from services.storage.trees.passwd import LIMIT, read_in_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "etc").mkdir(parents=True)
    return tmp_path / "root"


def test_a_plain_file(root: Path) -> None:
    (root / "etc/passwd").write_bytes(b"x")
    assert read_in_root(root, "etc/passwd") == b"x"


def test_a_missing_one(root: Path) -> None:
    assert read_in_root(root, "etc/passwd") == b""
    (root / "etc").rmdir()
    assert read_in_root(root, "etc/passwd") == b""
    (root / "etc").touch()
    assert read_in_root(root, "etc/passwd") == b""


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd", "/proc/self/environ", "passwd"])
def test_a_link_stays_inside(root: Path, target: str) -> None:
    (root / "etc/passwd").symlink_to(target)
    assert read_in_root(root, "etc/passwd") == b""


def test_a_link_inside_is_followed(root: Path) -> None:
    (root / "usr").mkdir()
    (root / "usr/passwd").write_bytes(b"x")
    (root / "etc/passwd").symlink_to("/usr/passwd")
    assert read_in_root(root, "etc/passwd") == b"x"


def test_a_folder_that_is_a_link_stays_inside(root: Path) -> None:
    (root / "etc").rmdir()
    (root / "etc").symlink_to("/etc")
    assert read_in_root(root, "etc/passwd") == b""


def test_what_is_not_a_regular_file(root: Path) -> None:
    os.mkfifo(root / "etc/passwd")
    assert read_in_root(root, "etc/passwd") == b""
    (root / "etc/group").mkdir()
    assert read_in_root(root, "etc/group") == b""


def test_one_that_is_too_large(root: Path) -> None:
    with open(root / "etc/passwd", "wb") as file:
        file.truncate(LIMIT)
        assert len(read_in_root(root, "etc/passwd")) == LIMIT
        file.truncate(1 << 30)
    with pytest.raises(FailedPrecondition, match="etc/passwd"):
        read_in_root(root, "etc/passwd")
