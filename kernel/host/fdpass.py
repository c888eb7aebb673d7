"""Descriptors handed from one process to another over a unix socket of packets (SCM_RIGHTS), both sides.

One connection hands over one message with its descriptors. The receiver takes all of it and answers with one byte; if
it closes without an answer, it has refused them. It accepts only processes of one user (root), by the credentials that
the kernel reports for the peer. Neither side ever waits without a deadline, and no descriptor outlives a step that
failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from kernel.errors import Unavailable
from kernel.host import rights
from kernel.host.aio import Deadline

MOST_DESCRIPTORS = 8
_MOST_BYTES = 4096
_BACKLOG = 1024
_PATIENCE = 10.0
"""Seconds that a sender may take from its connection to its message."""
_RETRY = 0.01
"""Seconds between attempts to connect to a receiver whose backlog is full: the kernel does not report when there is
room."""
_TAKEN = b"\1"
_CREDENTIALS = struct.Struct("=iII")
_LOG = logging.getLogger(__name__)


async def send(path: Path, message: bytes, fds: Sequence[int], deadline: Deadline) -> None:
    """Hand `fds` over; raise Unavailable if they are not taken. The caller closes its own descriptors in any case."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as connection:
        connection.setblocking(False)
        try:
            async with deadline.limit(f"descriptors to {path}"):
                await connect(connection, path)
                rights.send(connection, message, fds)
                answer = await loop.sock_recv(connection, 1)
        except OSError as error:
            raise Unavailable(f"descriptors to {path}: {error.strerror}") from error
    if answer != _TAKEN:
        raise Unavailable(f"descriptors to {path}: they are not wanted any more")


async def connect(connection: socket.socket, path: Path | str) -> None:
    """Connect a non-blocking socket to a unix socket's path; the caller sets a deadline.

    Errors are those of connect(2), except that a full backlog is waited for.
    """
    while True:
        try:
            connection.connect(str(path))
        except BlockingIOError:
            await asyncio.sleep(_RETRY)
        else:
            return


class Receiver:
    """A receiver of descriptors at a path. Make it inside a running loop."""

    def __init__(self, path: Path, take: Callable[[bytes, list[int]], bool], *, uid: int = 0) -> None:
        """Listen at the path. `take` gets each message with its descriptors and returns whether it keeps them; they are
        closed on exec."""
        self._take = take
        self._uid = uid
        self._loop = asyncio.get_running_loop()
        self._open: dict[socket.socket, asyncio.TimerHandle] = {}
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._socket.bind(str(path))
        path.chmod(0o600)
        self._socket.listen(_BACKLOG)
        self._loop.add_reader(self._socket, self._on_connection)

    def close(self) -> None:
        """Stop listening; the socket stays at its path for a successor to replace."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for connection in list(self._open):
            self._drop(connection)

    def _on_connection(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError as error:  # the peer has left again, or no descriptor is free
            _LOG.debug("a sender of descriptors was not accepted: %s", error.strerror)
            return
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(credentials)
        if uid != self._uid:
            _LOG.error("descriptors of process %d of user %d are refused", pid, uid)
            connection.close()
            return
        connection.setblocking(False)
        self._open[connection] = self._loop.call_later(_PATIENCE, self._drop, connection)
        self._loop.add_reader(connection, self._on_message, connection)

    def _on_message(self, connection: socket.socket) -> None:
        try:
            message, fds = rights.receive(connection, _MOST_BYTES, MOST_DESCRIPTORS)
        except BlockingIOError:  # a wake-up without a message
            return
        except OSError as error:
            _LOG.debug("a sender of descriptors failed: %s", error.strerror)
            self._drop(connection)
            return
        taken = False
        try:
            taken = bool(message) and self._take(message, fds)
            if taken:
                with contextlib.suppress(OSError):  # the sender has gone, and reports unfinished work itself
                    connection.send(_TAKEN)
        finally:
            if not taken:
                for fd in fds:
                    os.close(fd)
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        timer = self._open.pop(connection, None)
        if timer is not None:
            timer.cancel()
            self._loop.remove_reader(connection)
            connection.close()
