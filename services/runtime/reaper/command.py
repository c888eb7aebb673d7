"""One session's command as the reaper knows it, from the start of the OCI runtime to its own end.

Part of the reaper. Its states, in order: the OCI runtime runs (`runtime` is its pid); the command runs (`pid` is its
pid); it is forgotten. In both states it can be abandoned (`kill_at` is set): then its remaining processes
are killed.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from kernel.host import proc

_FIRST_ROUND = 0.02
"""Seconds from the first round of signals to the second; the pause then doubles."""
_LATER_ROUNDS = 1.0
"""Seconds between rounds of signals at most."""
_NOT_A_PROCESS = 0
"""The start time of a root that only names a group or session, because its first process has ended."""


class Command:
    """A command, or the OCI runtime that is starting it."""

    def __init__(self, connection: socket.socket, status: int, pid_file: str, runtime: int) -> None:
        self.connection = connection
        """The connection whose request started it, and that gets the answer."""
        self.status = status
        """The end of the status pipe to which its exit code is written."""
        self.pid_file = pid_file
        self.runtime = runtime
        """The OCI runtime's pid; 0 once that has ended."""
        self.pid = 0
        """The command's pid; 0 before the OCI runtime has written it, and once the command has ended."""
        self.roots: dict[int, int] = {}
        """Processes, groups and sessions whose descendants are killed in the end, with their start times."""
        self.kill_at = 0.0
        """The time of the next round of signals; 0 if it is to live. Once set, it stays until no process is left."""
        self._pause = _FIRST_ROUND
        self.add(runtime)

    def add(self, pid: int) -> None:
        """Add a child of the reaper to the session. No other process can get its pid before it is reaped."""
        found = proc.live(pid)
        if found is None:  # it has ended already, and its group has its pid as id
            self.roots.setdefault(pid, _NOT_A_PROCESS)
        else:
            # crun leaves the command in the session of a process that has ended
            self.roots |= {found.session: _NOT_A_PROCESS, pid: found.start}

    def written_pid(self) -> int:
        """Return the pid that the OCI runtime has written; 0 if it has not."""
        with suppress(OSError, ValueError), open(self.pid_file) as file:
            return int(file.read())
        return 0

    def report(self, code: int) -> None:
        """Write the exit code, as a shell counts it, to the status pipe."""
        self.remove_pid_file()  # first: the reader of the code may check that it is gone
        with suppress(OSError):  # the pipe has no reader
            os.write(self.status, b"%d\n" % (code if code >= 0 else 128 - code))

    def remove_pid_file(self) -> None:
        """Delete the pid file; its absence means to a worker that there is no process to kill."""
        with suppress(OSError):  # deleted with its container
            os.unlink(self.pid_file)

    def next_round(self, now: float) -> None:
        """Plan the next round of signals."""
        self.kill_at = now + self._pause
        self._pause = min(self._pause * 2, _LATER_ROUNDS)
