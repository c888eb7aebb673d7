"""What came of a process: its descendants, by parent, process group or session, from /proc.

Used by the runtime worker and by the reaper, so it imports the standard library alone. An orphan has another parent
but still its session, and mostly its group; one that has left them all is a daemon of its own making and is not found.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple


class Entry(NamedTuple):
    """A process as proc(5) has it in `stat`."""

    parent: int
    group: int
    session: int
    start: int
    """Clock ticks after boot: with the pid, one process for good."""


Table = dict[int, Entry]


def entry(pid: int) -> Entry | None:
    """One process; None where it is gone or ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in b"ZX" else Entry(*(int(fields[at]) for at in (1, 2, 3, 19)))


def read(pids: Iterable[int] | None = None) -> Table:
    """The table of these processes; of all on the host where none are named."""
    if pids is None:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return {pid: found for pid in pids if (found := entry(pid)) is not None}


def origins(pid: int) -> set[int]:
    """A command's pid, and its session where that is of a process that has ended: crun leaves commands in such."""
    found = entry(pid)
    return {pid} if found is None or entry(found.session) is not None else {pid, found.session}


def grown(roots: Iterable[int], table: Table) -> set[int]:
    """Those of `roots` that are in the table, with all that came of any of them, be it there or gone. Pure."""
    known, found = set(roots), set[int]()
    grew = True
    while grew:
        fresh = {
            pid
            for pid, one in table.items()
            if pid not in found and not known.isdisjoint((pid, one.parent, one.group, one.session))
        }
        grew = bool(fresh)
        found |= fresh
        known |= fresh
    return found


def kill(found: Iterable[int], table: Table) -> None:
    """SIGKILL to processes of a table that are still the same ones."""
    for pid in found:
        with suppress(OSError):  # it has ended
            fd = os.pidfd_open(pid)
            try:
                now = entry(pid)
                if now is not None and now.start == table[pid].start:
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            finally:
                os.close(fd)
