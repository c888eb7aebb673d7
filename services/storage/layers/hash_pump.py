"""The hash between the two children of an unpack, and the pipes that join them.

Runs in a thread of the storage worker. Nothing here looks at what the bytes mean.
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
    """The uncompressed bytes that were seen."""

    digest: Digest
    bytes: int
    over: bool
    """There were more than allowed."""


class Progress:
    """How far a pump is, for another thread to look at."""

    def __init__(self) -> None:
        self.bytes = 0


def pump(source: int, target: int, limit: int, progress: Progress | None = None) -> Pumped:
    """Hash all that comes from `source` and hand it to `target`, a pipe; both are closed.

    Where the reader of the pipe went away, hashing goes on: a wrong digest is the better reason.
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
    """Descriptors that are closed in the end, however far it came."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def make(self) -> tuple[int, int]:
        """A pipe as large as one chunk, where the kernel grants it."""
        read, write = os.pipe2(os.O_CLOEXEC)
        self._open |= {read, write}
        with suppress(PermissionError):  # above the user's share of pipe buffers: a smaller one is only slower
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _CHUNK)
        return read, write

    def dup(self, fd: int) -> int:
        """One more descriptor of a file."""
        copy = os.dup(fd)
        self._open.add(copy)
        return copy

    def take(self, fd: int) -> None:
        """Close this too."""
        self._open.add(fd)

    def release(self, *fds: int) -> None:
        """Somebody else closes these."""
        self._open.difference_update(fds)

    def close(self, *fds: int) -> None:
        """Close these now."""
        for fd in fds:
            self._open.discard(fd)
            os.close(fd)

    def close_all(self) -> None:
        """Close what is left."""
        self.close(*tuple(self._open))
