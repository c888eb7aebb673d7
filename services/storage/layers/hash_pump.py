"""The hash between the two children of an unpack, and the pipes that connect them.

Runs in a thread of the storage worker. The bytes are hashed and passed on, and never interpreted here.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass

from kernel.ids import Digest

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pumped:
    """The bytes that were passed on."""

    digest: Digest
    bytes: int
    over: bool
    """Whether there were more than allowed."""


class Progress:
    """The number of bytes that were passed on so far, for another thread to read."""

    def __init__(self) -> None:
        self.bytes = 0


def pump(source: int, target: int, limit: int, progress: Progress | None = None) -> Pumped:
    """Hash all that comes from `source` and write it to `target`; both are closed.

    If the reader of `target` has gone away, hashing goes on: a wrong digest is the better reason to give. More than
    `limit` bytes are not read.
    """
    seen = hashlib.sha256()
    total, reader_gone = 0, False
    progress = progress or Progress()
    buffer = memoryview(bytearray(_CHUNK))
    try:
        while count := os.readv(source, [buffer]):
            total += count
            progress.bytes = total
            if total > limit:
                break
            seen.update(buffer[:count])
            rest = buffer[: 0 if reader_gone else count]
            try:
                while rest:
                    rest = rest[os.write(target, rest) :]
            except BrokenPipeError:
                reader_gone = True
    finally:
        os.close(source)
        os.close(target)
    return Pumped(digest=Digest(f"sha256:{seen.hexdigest()}"), bytes=total, over=total > limit)


class Pipes:
    """Descriptors that are closed at the end, whatever has failed before."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def make(self) -> tuple[int, int]:
        """Make a pipe, as large as one chunk if the kernel grants it. Return its ends for reading and for writing."""
        read, write = os.pipe2(os.O_CLOEXEC)
        self._open |= {read, write}
        with suppress(PermissionError):  # above the user's share of pipe buffers: a smaller one is only slower
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _CHUNK)
        return read, write

    def dup(self, fd: int) -> int:
        """Duplicate a descriptor."""
        copy = os.dup(fd)
        self._open.add(copy)
        return copy

    def take(self, fd: int) -> None:
        """Add one that is to be closed at the end."""
        self._open.add(fd)

    def release(self, *fds: int) -> None:
        """Leave these open at the end: another owner closes them."""
        self._open.difference_update(fds)

    def close(self, *fds: int) -> None:
        """Close these now."""
        for fd in fds:
            self._open.discard(fd)
            os.close(fd)

    def close_all(self) -> None:
        """Close all that are left."""
        self.close(*tuple(self._open))
