"""Exec: a command's pipes or its terminal, and its status pipe.

A command has ended once its exit code has arrived. Output that the command has left in its pipes is still delivered;
later output of its children is not waited for. A client that leaves earlier ends the command: its descriptors are
closed.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from contextlib import suppress

from kernel.contracts.stream import ExpectRequest, Role
from kernel.stream.client.upgrade import UpgradeRequest
from kernel.stream.sessions import end_status
from kernel.stream.sessions.client_session import Service
from kernel.stream.sessions.descriptor_io import Source
from kernel.stream.sessions.remote_command import RemoteCommand

_DRAIN_SECONDS = 0.5
"""Seconds that output may take to arrive after its command's exit code."""
_MOST_STATUS = 16
"""Bytes that are read of the status pipe: an exit code and a newline."""


class ExecSession(RemoteCommand):
    """An exec."""

    def __init__(self, request: ExpectRequest, http_request: UpgradeRequest, service: Service) -> None:
        super().__init__(request, http_request, service)
        self._terminal = -1
        self._status = b""
        """The bytes received on the status pipe."""
        self._exit: bytes | None = None
        """All bytes of the status pipe, once it has ended."""

    def _expected(self) -> tuple[frozenset[Role], ...]:
        if self.request.tty:
            return (frozenset({Role.TERMINAL, Role.STATUS}),)
        return (frozenset({Role(name) for name in self._wanted} | {Role.STATUS}),)

    def _serve(self, given: dict[Role, int]) -> None:
        if (terminal := given.get(Role.TERMINAL)) is not None:
            self._terminal = terminal
            self._source("stdout", os.dup(terminal))
            if self._stdin is not None:
                self._stdin.open(os.dup(terminal))
            self._owned.append(terminal)
        if self._stdin is not None and Role.STDIN in given:
            self._stdin.open(given[Role.STDIN])
        for role in (Role.STDOUT, Role.STDERR):
            if role in given:
                self._source(role.value, given[role])
        self._sources["status"] = Source(
            given[Role.STATUS], self.service.buffer, lambda: _MOST_STATUS, self._on_status, self._on_status_end
        )

    def _source(self, name: str, fd: int) -> None:
        channel = self._channels.get(name)
        if channel is None:
            os.close(fd)
            return
        self._sources[name] = Source(
            fd, self.service.buffer, channel.room, channel.send, lambda: self._on_output_end(name)
        )

    def _apply_size(self) -> None:
        if self._terminal >= 0:
            width, height = self._size
            with suppress(OSError):  # the command has ended meanwhile
                fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def _on_status(self, data: memoryview) -> None:
        self._status = (self._status + data)[:_MOST_STATUS]
        if b"\n" in self._status:  # children of the command may hold the pipe open
            self._on_status_end()

    def _on_status_end(self) -> None:
        """Record that the command, or the process that watched it, has ended."""
        self._sources.pop("status").close()
        self._exit = self._status
        if self._sources:
            self._limit("drain", _DRAIN_SECONDS, self._drain)
        self._check()

    def _drain(self) -> None:
        for source in list(self._sources.values()):
            source.drain()

    def _end_status(self) -> bytes | None:
        if self._exit is None:
            return None
        code = self._exit.strip()
        if code.isdigit():
            return end_status.ended(int(code), plain=self.plain)
        return end_status.failed("the command was killed, and has no exit code", plain=self.plain)
