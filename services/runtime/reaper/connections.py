"""The reaper's socket, the workers that are connected to it, and their requests.

Part of the reaper. A connection keeps the reaper alive, and may request one command: the reaper sends a greeting, the
worker one message `{argv, env, pid_file}` with descriptors (the status pipe, then those of the OCI runtime from 0 on),
and the reaper its answer: `{pid}`, or `{code}` of an OCI runtime that failed, or `{error}`.
"""

from __future__ import annotations

import json
import os
import select
import socket
from contextlib import suppress
from typing import NamedTuple

from kernel.host import rights

GREETING = b"+"
"""Sent by the reaper first, so that a worker knows that this reaper has seen it and will not end before its request."""
_LEAST_DESCRIPTORS, _MOST_DESCRIPTORS = 4, 8
_MOST_BYTES = 64 << 10


class RawRequest(NamedTuple):
    """A worker's request, not yet decoded."""

    connection: socket.socket
    message: bytes
    fds: list[int]
    """Descriptors; the reaper closes them."""


class Connections:
    """The open connections."""

    def __init__(self, listener: socket.socket, poll: select.poll) -> None:
        self._listener = listener
        self._poll = poll
        self._open: dict[int, socket.socket] = {}
        self.had_any = False
        """Whether a worker was ever connected."""
        listener.setblocking(False)
        poll.register(listener, select.POLLIN)

    def __bool__(self) -> bool:
        """Whether there is any now."""
        return bool(self._open)

    def receive(self, fd: int) -> RawRequest | None:
        """Handle an event of a descriptor: accept a connection, or read its request; None if none came."""
        if fd == self._listener.fileno():
            self._accept()
            return None
        connection = self._open.get(fd)
        if connection is None:
            return None
        try:
            message, fds = rights.receive(connection, _MOST_BYTES, _MOST_DESCRIPTORS)
        except OSError:
            message, fds = b"", []
        if message and len(fds) >= _LEAST_DESCRIPTORS:
            return RawRequest(connection, message, fds)
        for one in fds:
            os.close(one)
        self.drop(connection)  # the worker has gone; the command of its request is abandoned by its status pipe
        return None

    def answer(self, connection: socket.socket, **reply: object) -> None:
        """Send the answer to a request and close the connection."""
        with suppress(OSError):  # the worker has gone, or its connection was closed before
            connection.send(json.dumps(reply).encode())
        self.drop(connection)

    def drop(self, connection: socket.socket) -> None:
        """Close a connection; one that is closed is left alone."""
        if self._open.pop(connection.fileno(), None) is not None:
            self._poll.unregister(connection)
            connection.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the worker has gone again
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self._open[connection.fileno()] = connection
            self._poll.register(connection, select.POLLIN)
            self.had_any = True
            connection.send(GREETING)
