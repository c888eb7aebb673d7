"""What is a whiteout. Opaque folders are in the integration tests: their attribute is root's to set."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from services.storage.trees import overlay_marks


def status(mode: int, device: int) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, 0, 0, 0, 0, 0, 0), {"st_rdev": device})


def test_a_whiteout_is_a_character_device_without_a_number() -> None:
    assert overlay_marks.is_whiteout(status(stat.S_IFCHR | 0o600, 0))
    assert not overlay_marks.is_whiteout(status(stat.S_IFCHR | 0o600, os.makedev(1, 3)))
    assert not overlay_marks.is_whiteout(status(stat.S_IFREG | 0o600, 0))


def test_a_folder_without_the_attribute_is_not_opaque(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert not overlay_marks.is_opaque(fd)
    finally:
        os.close(fd)
