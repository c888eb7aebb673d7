"""One daemon for each run folder; the rest of its life is tested in tests/integration/supervisor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.errors import FailedPrecondition
from kernel.supervisor import daemon


def test_a_second_daemon_learns_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "daemon.lock"
    held = daemon._only_one(path)
    with pytest.raises(FailedPrecondition, match=rf"serves {tmp_path} \(supervisor pid {os.getpid()}\)"):
        daemon._only_one(path)
    os.close(held)
    os.close(daemon._only_one(path))
