"""Paths are resolved below a folder, with no link or with none that leads out."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.storage.trees import within


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root" / "a" / "b").mkdir(parents=True)
    (tmp_path / "root" / "inside").symlink_to("/a")
    (tmp_path / "root" / "out").symlink_to("../../..")
    fd = os.open(tmp_path / "root", within.PLACE)
    yield fd
    os.close(fd)


def test_an_empty_path_is_the_folder_itself(root: int) -> None:
    for opened in (within.open_plain, within.open_in_root):
        fd = opened(root, b"")
        assert os.path.samestat(os.fstat(fd), os.fstat(root))
        os.close(fd)


def test_a_plain_path_has_no_link_in_it(root: int) -> None:
    fd = within.open_plain(root, b"a/b")
    assert os.listdir(fd) == []
    os.close(fd)
    for path, code in ((b"inside/b", errno.ELOOP), (b"inside", errno.ENOTDIR)):
        with pytest.raises(OSError) as caught:  # noqa: PT011
            within.open_plain(root, path)
        assert caught.value.errno == code
    with pytest.raises(OSError) as caught:  # noqa: PT011
        within.open_plain(root, b"..")
    assert caught.value.errno == errno.EXDEV


def test_links_lead_nowhere_but_into_the_root(root: int) -> None:
    for path, names in ((b"inside", ["b"]), (b"out", ["a", "inside", "out"]), (b"../../inside", ["b"])):
        fd = within.open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY)
        assert sorted(os.listdir(fd)) == names
        os.close(fd)
