"""Descriptors beside a message on a unix socket (SCM_RIGHTS, unix(7)): sent and received in one place.

It imports little, and only of the standard library, because the reaper of exec sessions and the spawner use it.
`kernel.host.fdpass` is the protocol of the session sockets on top of it.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from collections.abc import Sequence

_SIZE = array.array("i").itemsize


def send(connection: socket.socket, message: bytes, fds: Sequence[int] = ()) -> None:
    """Send a message of at least one byte with descriptors; the caller still owns them and closes them.

    Raises OSError as sendmsg(2) does: BlockingIOError if the socket does not block and the peer reads too slowly.
    """
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    connection.sendmsg([message], rights)


def receive(connection: socket.socket, most_bytes: int, most_fds: int) -> tuple[bytes, list[int]]:
    """Return the next message and its descriptors, which the caller then owns; they are closed on exec.

    An empty message is the end of the connection, or of a packet socket's peer. Raises OSError EMSGSIZE for a message
    (of a packet socket) or descriptors beyond the given numbers: then no descriptor is left open. (`socket.recv_fds` of
    Python 3.11 does not pass its flags on, so its descriptors stay open in every program that is started.)
    """
    space = socket.CMSG_LEN(most_fds * _SIZE)
    message, ancillary, flags, _ = connection.recvmsg(most_bytes, space, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % _SIZE])
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for fd in fds:
            os.close(fd)
        raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
    return message, list(fds)
