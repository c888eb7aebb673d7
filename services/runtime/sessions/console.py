"""The terminal of a command: the OCI runtime opens it inside the container and sends its controlling side here.

Run by the runtime worker on its event loop. The protocol is that of `--console-socket` (OCI runtime command line
interface). The socket's path is short, because an address must be: it lies in the worker's own folder, and is deleted
once the terminal has come.
"""

from __future__ import annotations

import asyncio
import fcntl
import secrets
import socket
import struct
import termios
from pathlib import Path
from types import TracebackType

from kernel.errors import Internal
from kernel.host import rights

_PREFIX = "tty-"
_MOST_BYTES = 4096
_MOST_SIZE = 0xFFFF
"""The largest width or height that a terminal has (ioctl_tty(2), struct winsize)."""


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
        """Return a descriptor of the terminal that is sent. The caller closes it, and bounds the wait."""
        loop = asyncio.get_running_loop()
        try:
            connection, _ = await loop.sock_accept(self._socket)
            with connection:
                await _readable(connection)
                _, fds = rights.receive(connection, _MOST_BYTES, 1)
        except OSError as error:
            raise Internal(f"exec: its terminal was not received: {error.strerror}") from error
        if not fds:
            raise Internal("exec: the OCI runtime sent no terminal")
        return fds[0]


def resize(terminal: int, width: int, height: int) -> None:
    """Set the size of a terminal in characters; OSError if the descriptor is none."""
    size = struct.pack("=HHHH", min(height, _MOST_SIZE), min(width, _MOST_SIZE), 0, 0)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)


def remove_stale(folder: Path) -> None:
    """Delete sockets that a killed worker has left."""
    for path in folder.glob(f"{_PREFIX}*"):
        path.unlink(missing_ok=True)


async def _readable(connection: socket.socket) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)
