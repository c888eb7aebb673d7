"""What is read from /proc, from texts and from this process itself."""

from __future__ import annotations

import os

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
    assert reality.pss(os.getpid()) > 1 << 20
