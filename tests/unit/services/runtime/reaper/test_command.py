from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from services.runtime.reaper import descendants
from services.runtime.reaper.command import Command
from tests.unit.services.runtime.reaper.test_descendants import one


def test_a_runtime_that_has_ended_before_anybody_looks_is_known_by_its_group() -> None:
    with subprocess.Popen(["true"], process_group=0) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            command = Command(ours, -1, "/nowhere", ended.pid)
    assert ended.pid in command.roots
    assert descendants.grown(command.roots, {7: one(parent=1, group=ended.pid)}) == {7}


def test_the_exit_code_is_written_as_a_shell_counts_it_once_the_pid_file_is_gone(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    for code, text in ((0, b"0\n"), (255, b"255\n"), (-9, b"137\n")):
        read, write = os.pipe()
        (tmp_path / "pid").write_text(f"{os.getpid()}")
        command = Command(ours, write, str(tmp_path / "pid"), os.getpid())
        assert command.written_pid() == os.getpid()
        command.report(code)
        assert os.read(read, 64) == text
        assert command.written_pid() == 0
        os.close(read)
        command.report(code)  # nobody reads it
        os.close(write)
    ours.close()
    theirs.close()


def test_rounds_of_signals_come_ever_later_up_to_a_second() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = Command(ours, -1, "/nowhere", os.getpid())
        pauses = []
        for _ in range(9):
            command.next_round(100.0)
            pauses.append(round(command.kill_at - 100.0, 2))
    assert pauses == [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0, 1.0]
