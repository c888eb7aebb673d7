"""A tar as it comes out of a pipe.

Runs in the children that read a tar, on their standard input. It does not interpret the tar: bytes are taken, skipped,
or copied to a file, and InvalidInput is raised if there are too few. Bytes that go into no file are kept for the
skeleton.
"""

from __future__ import annotations

import os

from kernel.errors import InvalidInput
from services.storage.tar.skeleton import Discard, Keeper

_BUFFER = 1 << 18


class Stream:
    """A descriptor as the `Source` of a tar. It has one buffer; large files go from pipe to disk inside the kernel."""

    def __init__(self, fd: int, keeper: Keeper | None = None) -> None:
        self._fd = fd
        self._keeper = keeper or Discard()
        self._buffer = memoryview(bytearray(_BUFFER))
        self._start = 0
        self._end = 0
        self.offset = 0

    def _refill(self) -> int:
        """Read on into the empty buffer. Return the number of bytes; 0 at the end."""
        self._start, self._end = 0, os.readv(self._fd, [self._buffer])
        return self._end

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes; fewer at the end."""
        end = self._start + count
        if end <= self._end:
            data = bytes(self._buffer[self._start : end])
            self._start = end
        else:
            parts = []
            left = count
            while left and (self._start < self._end or self._refill()):
                part = bytes(self._buffer[self._start : min(self._start + left, self._end)])
                parts.append(part)
                left -= len(part)
                self._start += len(part)
            data = b"".join(parts)
        self.offset += len(data)
        self._keeper.keep(data)
        return data

    def skip(self, count: int) -> None:
        """Pass over the next `count` bytes; InvalidInput if there are fewer."""
        while count > 0:
            length = min(count, self._available())
            self._keeper.keep(self._buffer[self._start : self._start + length])
            count -= self._advance(length)

    def copy_to(self, fd: int, count: int) -> None:
        """Write the next `count` bytes to the file `fd`; InvalidInput if there are fewer."""
        while count > 0:
            if count > _BUFFER and self._start == self._end:
                moved = os.splice(self._fd, fd, count)
                if not moved:
                    raise InvalidInput("tar is cut off within an entry's data")
                self.offset += moved
                count -= moved
            else:
                length = min(count, self._available())
                written = os.write(fd, self._buffer[self._start : self._start + length])
                count -= self._advance(written)

    def _available(self) -> int:
        if self._start == self._end and not self._refill():
            raise InvalidInput("tar is cut off within an entry's data")
        return self._end - self._start

    def _advance(self, count: int) -> int:
        self._start += count
        self.offset += count
        return count

    def drain(self) -> None:
        """Read to the end: what follows the archive belongs to the digest, and to nothing else."""
        self._keeper.keep(self._buffer[self._start : self._end])
        while self._refill():
            self._keeper.keep(self._buffer[: self._end])
