"""How an archive is compressed, and which file is one. What is in it is in the integration tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.errors import InvalidInput, NotFound, PermissionDenied
from services.storage.checkpoints.archive import compression, open_archive


def test_compression_is_known_by_the_first_bytes() -> None:
    assert (compression(b"\x1f\x8b\x08"), compression(b"\x28\xb5\x2f\xfd"), compression(b"conf")) == (
        "gzip",
        "zstd",
        "",
    )


def test_what_is_no_archive_of_roots(tmp_path: Path) -> None:
    place = tmp_path / "a"
    with pytest.raises(NotFound):
        open_archive(str(place))
    place.symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match="symbolic link"):
        open_archive(str(place))
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(InvalidInput, match="not a regular file"):
        open_archive(str(place))
    place.unlink()
    place.touch()
    place.chmod(0o666)
    with pytest.raises(PermissionDenied, match="by others than root"):
        open_archive(str(place))
