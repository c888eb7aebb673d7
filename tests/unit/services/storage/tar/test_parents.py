"""Directories are opened within the root, made if missing, and make way for what comes later."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.errors import InvalidInput
from services.storage.tar.parents import Parents
from services.storage.tar.tally import Tally


@pytest.fixture
def parents(tmp_path: Path) -> Iterator[Parents]:
    (tmp_path / "root").mkdir()
    root = os.open(tmp_path / "root", os.O_RDONLY)
    made = Parents(root, Tally())
    yield made
    made.close()
    os.close(root)


def test_missing_parents_are_made_and_noted_as_implied(parents: Parents, tmp_path: Path) -> None:
    fd = parents.open(b"a/b")
    assert parents.open(b"a/b") == fd  # kept open
    assert parents.open(b"") == parents.root
    assert (tmp_path / "root" / "a" / "b").is_dir()
    report = parents._tally.report()
    assert (report.implied, report.inodes, report.bytes) == (["a", "a/b"], 3, 8192)


def test_nothing_lies_below_what_is_no_directory(parents: Parents, tmp_path: Path) -> None:
    (tmp_path / "root" / "file").touch()
    with pytest.raises(InvalidInput, match="not a directory"):
        parents.open(b"file/x")


def test_a_link_leads_nowhere_but_into_the_root(parents: Parents, tmp_path: Path) -> None:
    (tmp_path / "root" / "up").symlink_to("../../x")
    with pytest.raises(InvalidInput):
        parents.open(b"up/y")
    assert os.listdir(tmp_path) == ["root"]


def test_a_directory_takes_the_place_of_a_file(parents: Parents, tmp_path: Path) -> None:
    (tmp_path / "root" / "a").touch()
    os.close(parents.open_or_make(parents.root, b"a", b"a"))
    assert (tmp_path / "root" / "a").is_dir()
    assert parents._tally.replaced


def test_hidden_first_and_then_made_shows_nothing_of_below(parents: Parents, tmp_path: Path) -> None:
    (tmp_path / "root" / "a").touch()  # in the place of a whiteout
    parents._tally.hide(b"a")
    os.close(parents.open_or_make(parents.root, b"a", b"a"))
    assert parents._tally.opaque == {b"a"}


def test_a_directory_goes_with_all_below_it(parents: Parents, tmp_path: Path) -> None:
    (tmp_path / "root" / "a" / "b").mkdir(parents=True)
    (tmp_path / "root" / "a" / "b" / "f").touch()
    parents.remove(parents.root, b"a", b"a")
    assert os.listdir(tmp_path / "root") == []
