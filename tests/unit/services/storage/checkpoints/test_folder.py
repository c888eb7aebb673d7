"""A checkpoint's folder, and errors that name what they are about."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest

from kernel.errors import InvalidInput, NotFound, ResourceExhausted
from services.storage.checkpoints.folder import named, os_errors, renew


def test_a_folder_is_made_anew(tmp_path: Path) -> None:
    for _ in range(2):
        renew(tmp_path / "c")
        assert list((tmp_path / "c").iterdir()) == []
        assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o700
        (tmp_path / "c" / "left").mkdir()


def test_errors_of_the_file_system() -> None:
    with pytest.raises(ResourceExhausted, match="it cannot be written: full"), os_errors("it cannot be written"):
        raise OSError(errno.ENOSPC, "full")


def test_errors_name_what_they_are_about() -> None:
    with pytest.raises(InvalidInput) as caught, named("archive a"):
        raise InvalidInput("is bad", hint="mend it")
    assert str(caught.value) == "archive a: is bad; mend it"
    with pytest.raises(NotFound, match=r"^gone$"), named("archive a"):
        raise NotFound("gone")
