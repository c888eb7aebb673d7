"""What came of a process: by parent, group and session, also where those have ended."""

from __future__ import annotations

import os
import signal
import subprocess

from kernel.host import proc
from services.runtime.reaper import descendants


def one(parent: int, group: int = 1, session: int = 1) -> proc.Stat:
    return proc.Stat(state="S", parent=parent, group=group, session=session, cpu=0, start=7, arguments=(0, 0))


def test_descendants_are_found_by_parent_group_or_session() -> None:
    table = {
        10: one(1, 10, 10),
        11: one(10, 10, 10),
        12: one(1, 12, 10),  # an orphan in a group of its own: by session
        13: one(1, 10, 99),  # by group alone
        14: one(13, 14, 14),  # by parent, in a session of its own
        15: one(14, 15, 15),
        20: one(1, 20, 20),  # somebody else's
        21: one(20, 20, 20),
    }
    assert descendants.grown([10], table) == {10, 11, 12, 13, 14, 15}
    del table[10]
    assert descendants.grown([10], table) == {11, 12, 13, 14, 15}, "its root has ended"
    assert descendants.grown([77], table) == set()
    assert descendants.grown([], table) == set()


def test_what_runs_is_read_and_killed_and_what_ended_is_not_there() -> None:
    shell = subprocess.Popen(
        ["sh", "-c", "sleep 600 & echo; while true; do wait; done"], stdout=subprocess.PIPE, start_new_session=True
    )
    assert shell.stdout
    shell.stdout.readline()
    table = descendants.read()
    found = descendants.grown([shell.pid], table)
    assert len(found) == 2
    assert table[shell.pid] == descendants.read([shell.pid])[shell.pid]
    assert (table[shell.pid].parent, table[shell.pid].session) == (os.getpid(), shell.pid)
    descendants.kill(found, {pid: entry._replace(start=0) for pid, entry in table.items()})
    assert shell.poll() is None, "these would be others with the same pids"
    descendants.kill(found, table)
    os.waitid(os.P_PID, shell.pid, os.WEXITED | os.WNOWAIT)
    assert shell.pid not in descendants.read(), "a zombie does not run"
    assert shell.wait() == -signal.SIGKILL
    descendants.kill(found, table)
    shell.stdout.close()


def test_a_command_is_found_by_a_session_whose_first_process_has_ended() -> None:
    script = "setsid sh -c 'sleep 600 >&2 & echo $!'"
    told = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, check=True)
    pid = int(told.stdout)
    found = proc.live(pid)
    assert found
    assert descendants.origins(pid) == {pid, found.session}
    assert descendants.origins(os.getpid()) <= {os.getpid(), os.getsid(0)}
    os.kill(pid, signal.SIGKILL)
    assert descendants.origins(0) == {0}
