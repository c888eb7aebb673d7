"""Readings of real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from kernel.cli.usage.processes import figures, readings
from kernel.contracts.supervisor import WorkerStatus


def worker(name: str, pid: int) -> WorkerStatus:
    return WorkerStatus(
        name=name, pid=pid, uid=0, capabilities=(), seccomp="", no_new_privs=False, memory=1000, restarts=2,
        uptime=5.0, state="ready" if pid else "held down",
    )  # fmt: skip


def test_figures_of_this_process() -> None:
    before = figures(os.getpid())
    assert before is not None
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        with open(os.devnull) as _:
            after = figures(os.getpid())
    finally:
        release.set()
        thread.join()
    assert after is not None
    assert after.started == before.started
    assert after.at >= before.at
    assert after.cpu >= before.cpu > 0
    assert after.threads == before.threads + 1
    assert (after.open_files or 0) == (before.open_files or 0) + 1


def test_a_process_that_vanishes_is_left_out() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert figures(child.pid) is None  # a zombie
    assert figures(child.pid) is None
    assert figures(0) is None
    found = list(readings([worker("front", child.pid), worker("image", os.getpid()), worker("storage", 0)]))
    assert [(one.name, one.pid, one.state) for one in found] == [
        ("image", os.getpid(), "ready"),
        ("storage", 0, "held down"),
    ]
    assert (found[0].memory, found[0].restarts, found[0].uptime) == (1000, 2, 5.0)
    assert (found[1].cpu, found[1].threads, found[1].open_files) == (None, None, None)
