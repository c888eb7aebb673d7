"""What is noted of directories, and forgotten with them."""

from __future__ import annotations

import pytest

from kernel.errors import ResourceExhausted
from services.storage.tar import tally
from services.storage.tar.tally import Report, Tally


def test_the_report_of_an_empty_layer() -> None:
    assert Tally().report() == Report(0, 1, False, [], [], [], False)


def test_a_directory_with_an_entry_of_its_own_is_not_implied() -> None:
    noted = Tally()
    noted.imply(b"a")
    noted.imply(b"a/\xff")
    noted.has_entry(b"a")
    assert noted.report().implied == ["a/\xff"]  # a character is a byte


def test_an_opaque_directory_needs_no_note_of_its_whiteouts() -> None:
    noted = Tally()
    noted.hide(b"a/gone")
    noted.hide(b"b/gone")
    noted.opaque.add(b"a")
    assert (noted.report().opaque, noted.report().hiding) == (["a"], ["b"])


def test_what_is_removed_is_forgotten_with_all_below() -> None:
    noted = Tally()
    for path in (b"a", b"a/b", b"ab"):
        noted.imply(path)
        noted.opaque.add(path)
        noted.hide(path + b"/gone")
    noted.forget(b"a")
    assert (noted.report().implied, noted.report().opaque, noted.hidden) == (["ab"], ["ab"], {b"ab/gone"})


def test_notes_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "MOST_NOTED", 10)
    noted = Tally()
    noted.imply(b"x" * 10)
    noted.imply(b"x" * 10)  # noted already
    with pytest.raises(ResourceExhausted):
        noted.hide(b"y/z")
