"""A layer's tar without its files' contents, kept beside the layer: with the files it gives the tar, byte for byte.

The child that makes a layer's files writes it, compressed, as it reads the tar: headers, padding, and every other byte
that makes no file. So a layer can be checked at any time against the digest in the image's configuration, and nothing
has to be hashed for that when it is unpacked. A skeleton is not trusted: the tar that is made from it is hashed.
"""

from __future__ import annotations

import os
import zlib
from typing import Protocol

from isal import isal_zlib

from kernel.errors import Corrupt

MAX_BYTES = 256 << 20
"""Most bytes of a skeleton on disk. A layer with a larger one keeps none, and cannot be checked."""
_LEVEL = 1
_BUFFER = 1 << 18
_COPY = 1 << 20


class Keeper(Protocol):
    """Takes the bytes of a tar that make no file."""

    def keep(self, data: bytes | memoryview) -> None:
        """Keep the next bytes."""


class Discard:
    """Keeps nothing."""

    def keep(self, data: bytes | memoryview) -> None:
        """Drop them."""


class Writer:
    """Writes a skeleton to a file."""

    def __init__(self, fd: int, limit: int = MAX_BYTES) -> None:
        self._fd = fd
        self._left = limit
        self._waiting = bytearray()
        self._packer = isal_zlib.compressobj(_LEVEL)
        self.whole = True
        """Whether all was kept; known at the end."""

    def keep(self, data: bytes | memoryview) -> None:
        """Keep the next bytes."""
        self._waiting += data
        if len(self._waiting) >= _BUFFER:
            self._pack(self._packer.compress(bytes(self._waiting)))
            self._waiting.clear()

    def end(self) -> None:
        """Write the bytes that are still held back; no more follow."""
        self._pack(self._packer.compress(bytes(self._waiting)) + self._packer.flush())

    def _pack(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self.whole = False
            return
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]


class Rebuilt:
    """The tar made again, as a `Source` of its entries: every byte that is taken or passed over goes to `output`."""

    def __init__(self, skeleton: int, output: int) -> None:
        self._skeleton = skeleton
        self._output = output
        self._unpacker = zlib.decompressobj()
        self._ready = b""
        self._at = 0
        self.offset = 0

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes of the skeleton; fewer at its end."""
        while len(self._ready) - self._at < count and (more := self._more()):
            self._ready, self._at = self._ready[self._at :] + more, 0
        data = self._ready[self._at : self._at + count]
        self._at += len(data)
        self._give(data)
        return data

    def skip(self, count: int) -> None:
        """Pass over the next `count` bytes; Corrupt if there are fewer."""
        while count > 0:
            data = self.take(min(count, _BUFFER))
            if not data:
                raise Corrupt("the skeleton of its tar is cut off")
            count -= len(data)

    def copy_from(self, fd: int, count: int) -> None:
        """Pass over the next `count` bytes of the tar, which a file contains; Corrupt if it has fewer."""
        while count > 0:
            data = os.read(fd, min(count, _COPY))
            if not data:
                raise Corrupt("a file is shorter than in its tar")
            self._give(data)
            count -= len(data)

    def drain(self) -> None:
        """Write all the rest."""
        while self.take(_BUFFER):
            pass

    def _more(self) -> bytes:
        while not self._unpacker.eof:
            packed = self._unpacker.unconsumed_tail or os.read(self._skeleton, _BUFFER)
            try:
                data = self._unpacker.decompress(packed, _BUFFER) if packed else self._unpacker.flush()
            except zlib.error as error:
                raise Corrupt(f"the skeleton of its tar cannot be decompressed: {error}") from error
            if data:
                return data
            if not packed:
                break
        return b""

    def _give(self, data: bytes) -> None:
        self.offset += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._output, view) :]
