"""The file by which a new supervisor finds the workers of an earlier one."""

from __future__ import annotations

import os
import select
import subprocess
from pathlib import Path

import msgspec
import pytest

from kernel.supervisor.processes import roster


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "workers.json"
    mine = roster.entry("image", os.getpid(), 3)
    roster.save(path, [mine])
    assert roster.load(path) == {"image": mine}
    assert [one.name for one in tmp_path.iterdir()] == ["workers.json"]


@pytest.mark.parametrize("text", [b"", b"[", b"{}", b'[{"name": 1}]'])
def test_a_file_that_does_not_read_back_is_as_good_as_none(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "workers.json"
    assert roster.load(path) == {}
    path.write_bytes(text)
    assert roster.load(path) == {}


def test_a_live_process_is_adopted_and_its_end_is_seen() -> None:
    child = subprocess.Popen(["sleep", "60"])
    pidfd = roster.adopt(roster.entry("image", child.pid, 0))
    assert pidfd is not None
    assert not select.select([pidfd], [], [], 0)[0]
    child.kill()
    assert select.select([pidfd], [], [], 5)[0]
    os.close(pidfd)
    child.wait()


def test_another_process_of_the_same_pid_is_not_adopted() -> None:
    mine = roster.entry("image", os.getpid(), 0)
    assert roster.adopt(msgspec.structs.replace(mine, start_time=mine.start_time + 1)) is None
    assert roster.adopt(msgspec.structs.replace(mine, pid=0)) is None


def test_a_process_that_is_gone_is_not_adopted() -> None:
    child = subprocess.Popen(["sleep", "60"])
    entry = roster.entry("image", child.pid, 0)
    child.kill()
    child.wait()
    assert roster.adopt(entry) is None
