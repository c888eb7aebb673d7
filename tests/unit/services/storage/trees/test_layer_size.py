"""Sizes by the lengths of files, in whole blocks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.storage.trees import layer_size


@pytest.mark.parametrize(("size", "taken"), [(0, 0), (1, 4096), (4096, 4096), (4097, 8192)])
def test_whole_blocks(size: int, taken: int) -> None:
    assert layer_size.blocks(size) == taken


def test_a_file_with_many_names_counts_once_and_a_link_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "one").write_bytes(b"x" * 5000)
    os.link(tmp_path / "d" / "one", tmp_path / "d" / "e" / "two")
    (tmp_path / "away").symlink_to("/etc")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert layer_size.count(fd) == (2 * 4096 + 8192, 5)  # two folders and the file; the root, and the link
    finally:
        os.close(fd)
