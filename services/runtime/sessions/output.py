"""One stream of a command, read as it comes, and kept up to a limit.

Run by the runtime worker on its event loop.
"""

from __future__ import annotations

import asyncio
import os

LIMIT = 16 << 20
"""Bytes that are kept; further ones are read and dropped, as the kubelet and other runtimes do."""
_CHUNK = 1 << 16


class Output:
    """The reading end of a pipe."""

    def __init__(self, read: int = -1) -> None:
        """Read from the pipe whose reading end is given, and which is closed in the end; else make a pipe."""
        self.kept = bytearray()
        self.over = asyncio.Event()
        """Set when no process can write any more."""
        self._read, self.write = (read, -1) if read >= 0 else os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._read, self._on_readable)

    def close_write(self) -> None:
        """Close the write end here, once the command has its own."""
        if self.write >= 0:
            os.close(self.write)
            self.write = -1

    def close(self) -> None:
        """Take the bytes that have arrived, and read no more."""
        self.close_write()
        while self._read >= 0 and self._take():
            pass
        if self._read >= 0:
            self._loop.remove_reader(self._read)
            os.close(self._read)
            self._read = -1

    def _on_readable(self) -> None:
        if not self._take():
            self._loop.remove_reader(self._read)
            self.over.set()

    def _take(self) -> bool:
        """Read once. Return whether more may be there at once."""
        try:
            chunk = os.read(self._read, _CHUNK)
        except BlockingIOError:
            return False
        self.kept += chunk[: LIMIT - len(self.kept)]
        return bool(chunk)
