"""Data of processes and of the boot from /proc: one line of it, read and split in one place.

It imports little, and only of the standard library, because the reaper of exec sessions uses it.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple


class Stat(NamedTuple):
    """The fields of /proc/PID/stat that crisp uses (proc(5))."""

    state: str
    """One letter: Z is a process that has ended and is not reaped."""
    parent: int
    group: int
    session: int
    cpu: int
    """User and system time in clock ticks."""
    start: int
    """Clock ticks from the boot to the start of the process. With the pid, this identifies one process of this boot."""
    arguments: tuple[int, int]
    """Addresses of its command line in its memory; zeros if the reader may not trace it."""

    @property
    def ended(self) -> bool:
        """Whether the process has ended and only waits to be reaped."""
        return self.state in "ZX"


def parse_stat(text: bytes) -> Stat:
    """Split a line of /proc/PID/stat. The command's name may contain anything, spaces and `)` included. Pure."""
    fields = text.rpartition(b")")[2].split()  # from field 3 on
    return Stat(
        state=fields[0].decode(),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        cpu=int(fields[11]) + int(fields[12]),
        start=int(fields[19]),
        arguments=(int(fields[45]), int(fields[46])),
    )


def stat(pid: int) -> Stat | None:
    """Return the fields of a process; None if there is none with this pid. A process that has ended has them until it
    is reaped."""
    return _stat(f"/proc/{pid}/stat")


def live(pid: int) -> Stat | None:
    """Return the fields of a process that runs; None if there is none, or if it has ended and is not reaped."""
    found = stat(pid)
    return None if found is None or found.ended else found


def main_thread_cpu(pid: int) -> float:
    """Return the seconds of CPU that the main thread of a process has used; 0 if the process is gone."""
    found = _stat(f"/proc/{pid}/task/{pid}/stat")
    return seconds(found.cpu) if found else 0.0


def start_time(pid: int) -> int:
    """Return the start of a process in clock ticks after the boot; ProcessLookupError if there is none."""
    found = stat(pid)
    if found is None:
        raise ProcessLookupError(f"there is no process {pid}")
    return found.start


def seconds(ticks: int) -> float:
    """Return clock ticks as seconds."""
    return ticks / os.sysconf("SC_CLK_TCK")


def age(start: int) -> float:
    """Return the seconds that have passed since a start in clock ticks after the boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - seconds(start)


def boot_id() -> str:
    """Return the id of this boot, a random UUID (random(4))."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _stat(path: str) -> Stat | None:
    try:
        with open(path, "rb") as file:
            return parse_stat(file.read())
    except (FileNotFoundError, ProcessLookupError):  # there is no such process, or it was reaped between open and read
        return None
