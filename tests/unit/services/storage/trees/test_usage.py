"""Space on disk as the kernel counts it."""

from __future__ import annotations

import os
from pathlib import Path

from services.storage.trees.usage import NEW, measure


def test_files_with_many_names_count_once(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_bytes(b"x" * 10_000)
    os.link(tmp_path / "d/a", tmp_path / "b")
    (tmp_path / "s").symlink_to("/usr")
    usage = measure(tmp_path)
    assert usage.inodes == 4
    assert 10_000 <= usage.bytes < 40_000


def test_holes_take_no_space(tmp_path: Path) -> None:
    with open(tmp_path / "hole", "wb") as file:
        file.truncate(1 << 30)
    assert measure(tmp_path).bytes < 1 << 20


def test_a_new_one_is_one_folder(tmp_path: Path) -> None:
    assert measure(tmp_path).inodes == NEW.inodes
