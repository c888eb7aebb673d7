"""Finds the processes that a command started, by parent, process group or session, from /proc.

Used by the runtime worker and by the reaper, so it imports the standard library alone. An orphan has another parent,
but still its session and mostly its group. A process that has left all three is a daemon, and is not found.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress

from kernel.host import proc

Table = dict[int, proc.Stat]
"""Processes that run, by pid."""


def read(pids: Iterable[int] | None = None) -> Table:
    """Return the table of these processes, or of all processes of the host."""
    if pids is None:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return {pid: found for pid in pids if (found := proc.live(pid)) is not None}


def origins(pid: int) -> set[int]:
    """Return a command's pid, and its session if its first process has ended, because crun leaves commands in such."""
    found = proc.live(pid)
    return {pid} if found is None or proc.live(found.session) is not None else {pid, found.session}


def grown(roots: Iterable[int], table: Table) -> set[int]:
    """Return the roots that run, and every running descendant of any root, also of roots that have ended. Pure.

    A root is the id of a process, group or session.
    """
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


def kill(pids: Iterable[int], table: Table) -> None:
    """Send SIGKILL to processes of a table, but not to later ones with the same pids."""
    for pid in pids:
        with suppress(OSError):  # it has ended
            fd = os.pidfd_open(pid)
            try:
                now = proc.live(pid)
                if now is not None and now.start == table[pid].start:
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            finally:
                os.close(fd)
