"""What is read from /proc, from texts and from this process itself."""

from __future__ import annotations

import os
import time

import pytest

from kernel.supervisor.privileges import reality

STATUS = """Name:\tcrisp-image
Uid:\t998\t998\t998\t998
CapEff:\t0000000000203002
NoNewPrivs:\t1
Seccomp:\t2
Seccomp_filters:\t1
"""


def test_status_is_read() -> None:
    found = reality.parse_status(STATUS)
    assert found == reality.Status(
        uid=998, capabilities=("DAC_OVERRIDE", "NET_ADMIN", "NET_RAW", "SYS_ADMIN"), seccomp="filter", no_new_privs=True
    )


def test_a_capability_newer_than_ours_is_a_number() -> None:
    assert reality.capability_names(1 << 62 | 1) == ("CHOWN", "62")


def test_this_process() -> None:
    assert reality.status(os.getpid()).uid == os.geteuid()
    assert 0 <= reality.uptime(reality.start_time(os.getpid())) < time.clock_gettime(time.CLOCK_BOOTTIME)
    assert reality.pss(os.getpid()) > 1 << 20
    assert len(reality.boot_id()) == 36


def test_a_process_that_is_gone() -> None:
    pid = os.spawnv(os.P_NOWAIT, "/bin/true", ["true"])
    os.waitpid(pid, 0)
    with pytest.raises(FileNotFoundError):
        reality.start_time(pid)


def test_the_main_threads_time_is_not_that_of_others() -> None:
    until = time.thread_time() + 0.1
    while time.thread_time() < until:
        pass
    assert reality.main_thread_cpu(os.getpid()) == pytest.approx(time.thread_time(), abs=0.05)
    assert reality.main_thread_cpu(2**22 + 1) == 0.0
