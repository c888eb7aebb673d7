"""Both ends of a session's pipes: one for the command, one for the stream process.

Run by the runtime worker. Rule kept: every descriptor is closed here in the end, because each receiver gets a copy.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack, suppress

from kernel.contracts.stream import Role

_PIPE_BYTES = 256 << 10


class Descriptors:
    """The descriptors of one session."""

    def __init__(self, opened: ExitStack, owner: tuple[int, int] = (0, 0)) -> None:
        """Begin with none. `opened` closes them in the end; `owner` is the uid and gid of the command's user."""
        self._opened = opened
        self._given = opened.enter_context(ExitStack())
        self._owner = owner
        self.command: list[int] = []
        """The reaper's: its status pipe, then those of the OCI runtime from 0 on, of which the command gets the first
        three."""
        self.stream: list[int] = []
        """The stream process's descriptors."""
        self.roles: list[Role] = []
        """The role of each descriptor in `stream`."""

    def add_status(self) -> None:
        """Add the pipe on which the exit code comes; before anything else."""
        read, write = os.pipe2(os.O_CLOEXEC)
        self._give(write)
        self.pass_on(Role.STATUS, self.hold(read))

    def add_nothing(self) -> None:
        """Give the command /dev/null."""
        self._give(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))

    def add_pipe(self, role: Role) -> None:
        """Add a pipe that belongs to the command's user, who may open it again by name (/dev/stdout)."""
        read, write = os.pipe2(os.O_CLOEXEC)
        theirs, ours = (read, write) if role is Role.STDIN else (write, read)
        self._give(theirs)
        self.pass_on(role, self.hold(ours))
        os.fchown(read, *self._owner)
        with suppress(PermissionError):  # above this user's share of pipe buffers: a smaller one is only slower
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def add_for_runtime(self, fd: int) -> int:
        """Give the OCI runtime one more descriptor, and return the number that it has there."""
        self._give(fd)
        return len(self.command) - 2  # the status pipe is the reaper's alone

    def close_given(self) -> None:
        """Close the descriptors of which the command's side has copies, so that its closing of those can be noticed."""
        self._given.close()

    def pass_on(self, role: Role, fd: int) -> None:
        """Give the stream process a descriptor."""
        self.stream.append(fd)
        self.roles.append(role)

    def hold(self, fd: int) -> int:
        """Close a descriptor in the end. Returns it."""
        self._opened.callback(os.close, fd)
        return fd

    def _give(self, fd: int) -> None:
        """Give the command's side a descriptor; the copy here is closed by `close_given`, or in the end."""
        self._given.callback(os.close, fd)
        self.command.append(fd)
