"""The terminal of a command: the OCI runtime opens it inside the container and sends its controlling side here.

Run by the runtime worker on its event loop (OCI runtime command line, `--console-socket`). The socket's path is short,
in the worker's own folder, and is gone once the terminal has come.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import secrets
import socket
import struct
import termios
from pathlib import Path
from types import TracebackType

from kernel.errors import Internal

_PREFIX = "tty-"
_SPACE = socket.CMSG_LEN(array.array("i").itemsize)
_MOST_BYTES = 4096
_MOST_SIZE = 0xFFFF


class Console:
    """A socket that waits for one terminal; to be closed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{_PREFIX}{secrets.token_hex(4)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._socket.bind(str(self.path))
        self.path.chmod(0o600)
        self._socket.listen(1)

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)

    async def terminal(self) -> int:
        """A descriptor of the terminal that was sent. Wants a deadline."""
        loop = asyncio.get_running_loop()
        try:
            connection, _ = await loop.sock_accept(self._socket)
            with connection:
                await _readable(connection)
                _, ancillary, _, _ = connection.recvmsg(_MOST_BYTES, _SPACE, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise Internal(f"exec: its terminal did not come: {error.strerror}") from error
        fds = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data)
        if not fds:
            raise Internal("exec: the OCI runtime sent no terminal")
        return fds[0]


def resize(terminal: int, width: int, height: int) -> None:
    """Set its size; OSError where it is no terminal."""
    size = struct.pack("=HHHH", min(height, _MOST_SIZE), min(width, _MOST_SIZE), 0, 0)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)


def remove_stale(folder: Path) -> None:
    """Sockets that a worker left which was killed."""
    for path in folder.glob(f"{_PREFIX}*"):
        path.unlink(missing_ok=True)


async def _readable(connection: socket.socket) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)
