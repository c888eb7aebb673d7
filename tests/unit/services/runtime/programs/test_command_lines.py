"""Processes are found by an option and its value."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from services.runtime.programs import command_lines
from tests.harness.host import until


def test_a_process_is_found_by_an_option_and_its_value(tmp_path: Path) -> None:
    words = ["sh", "-c", "sleep 60; :", "x", "--bundle", str(tmp_path / "a"), "end"]
    with subprocess.Popen(words, start_new_session=True) as started:
        try:
            until("the process is found", lambda: command_lines.pids_with("--bundle", tmp_path / "a") == [started.pid])
            assert command_lines.pids_with("--bundle", tmp_path) == []
            assert command_lines.pids_with("--work-path", tmp_path / "a") == []
            assert os.getpid() not in command_lines.pids_with("--bundle", tmp_path / "a")
        finally:
            os.killpg(started.pid, 9)
