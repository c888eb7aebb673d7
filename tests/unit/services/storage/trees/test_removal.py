"""Trees are deleted whatever their depth, and links in them are not followed."""

from __future__ import annotations

import os
from pathlib import Path

from services.storage.trees.removal import delete, remove_in_place


def test_a_tree_deeper_than_any_path(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deeper", dir_fd=fd)
        below = os.open("deeper", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    delete(top)
    assert not top.exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    (tmp_path / "tree" / "a").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "link").symlink_to(tmp_path / "kept")
    delete(tmp_path / "tree")
    assert (tmp_path / "kept" / "file").exists()
    assert not (tmp_path / "tree").exists()


def test_nothing_to_delete(tmp_path: Path) -> None:
    delete(tmp_path / "missing")


def test_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    (tmp_path / "tree" / "a" / "b").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "file").write_text("x")
    (tmp_path / "tree" / "a" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "alone").write_text("x")
    fd = os.open(tmp_path, os.O_RDONLY)
    for name in (b"tree", b"alone", b"missing"):
        remove_in_place(fd, name)
    os.close(fd)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "file").exists()
