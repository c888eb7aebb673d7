"""Lines of /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from kernel.host import proc

LINE = (
    b"1234 (a) S (b\n) R 1 2 3 0 -1 4194560 1 2 3 4 50 7 0 0 20 0 1 0 9000 1 1 1 1 1 1 1 1 1 1 1 1 0 0 17 0 0 0 0 0 0 "
    b"0 100 200 300 4000 5000 4090 4095 0\n"
)
"""Fields 3 to 52 of proc(5); the name of the command imitates others."""


def test_a_line_is_split_behind_the_name_of_the_command() -> None:
    found = proc.parse_stat(LINE)
    assert found == proc.Stat(state="R", parent=1, group=2, session=3, cpu=57, start=9000, arguments=(4000, 5000))
    assert not found.ended


def test_this_process() -> None:
    found = proc.live(os.getpid())
    assert found is not None
    assert (found.parent, found.group, found.session) == (os.getppid(), os.getpgid(0), os.getsid(0))
    assert found.start == proc.start_time(os.getpid())
    assert 0 < proc.age(found.start) < 86400 * 365
    assert len(proc.boot_id()) == 36


def test_one_that_has_ended_is_there_until_it_is_reaped() -> None:
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    found = proc.stat(child)
    assert found is not None
    assert found.ended
    assert proc.live(child) is None
    os.waitpid(child, 0)
    assert proc.stat(child) is None
    with pytest.raises(ProcessLookupError):
        proc.start_time(child)


def test_the_time_of_the_main_thread_is_not_that_of_others() -> None:
    until = time.thread_time() + 0.1
    while time.thread_time() < until:
        pass
    assert proc.main_thread_cpu(os.getpid()) == pytest.approx(time.thread_time(), abs=0.05)
    assert proc.main_thread_cpu(2**22 + 1) == 0.0


def test_it_is_light_enough_for_the_reaper() -> None:
    code = "import sys; old = {*sys.modules}; import kernel.host.proc, kernel.host.rights; print(*{*sys.modules} - old)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"asyncio", "dataclasses", "logging", "msgspec", "pathlib"} & set(done.stdout.split())
