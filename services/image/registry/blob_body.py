"""A blob as it arrives from a registry: exactly its size, and not too slowly. It is not hashed here.

Runs in a job's thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from kernel.contracts.oci import Descriptor
from kernel.errors import Corrupt, Unavailable
from services.image.registry.failures import Transient
from services.image.registry.response import Response

_PIECE = 256 << 10
"""The most bytes of a piece."""
_INTERVAL = 0.5
"""Seconds after which a piece is yielded although it is not full."""
_LEAST = 4096
"""The least bytes within the progress timeout: fewer are a stall."""


class BlobBody:
    """The body of an answer: a blob, or the rest of one."""

    def __init__(self, response: Response, blob: Descriptor, what: str, offset: int, timeout: float) -> None:
        """`offset`: the place of its first byte in the blob. `timeout`: the progress timeout in seconds."""
        self._response = response
        self._size = blob.size
        self._what = f"registry {response.host}: {what}"
        self._timeout = timeout
        self.offset = offset
        self.etag = response.header("ETag")
        """The registry's mark of this very content; empty if it gives none."""

    def pieces(self) -> Iterator[memoryview]:
        """Yield the bytes as they arrive. Each piece is valid until the next one.

        If the connection breaks, what came before is yielded first, and then Unavailable is raised. Corrupt if the
        registry sends more or fewer bytes than the manifest names.
        """
        response, left = self._response, self._size - self.offset
        try:
            if response.length is not None and response.length != left:
                raise Corrupt(f"{self._what}: sends {response.length} bytes, but the manifest gives {left}")
            buffer, filled = memoryview(bytearray(min(_PIECE, left + 1))), 0
            pace = _Pace(self._what, self._timeout)
            yielded = time.monotonic()
            while left:
                try:
                    count = response.readinto(buffer[filled : min(filled + left, len(buffer))])
                    if not count:
                        raise self._broken_off(left)
                    now = pace.check(count, left)
                except Unavailable:
                    if filled:
                        yield buffer[:filled]
                    raise
                filled += count
                left -= count
                if filled == len(buffer) or not left or now - yielded > _INTERVAL:
                    yield buffer[:filled]
                    filled, yielded = 0, now
            if response.length is None and response.readinto(buffer[:1]):
                raise Corrupt(f"{self._what}: sends more than the {self._size} bytes of the manifest")
        finally:
            if left:
                response.abandon()
            else:
                response.close()

    def _broken_off(self, left: int) -> Unavailable:
        error = Unavailable(f"{self._what}: broke off after {self._size - left} of {self._size} bytes")
        error.__cause__ = Transient()
        return error


class _Pace:
    """Whether enough bytes come within each progress timeout."""

    def __init__(self, what: str, timeout: float) -> None:
        self._what = what
        self._timeout = timeout
        self._bytes = 0
        self._since = time.monotonic()

    def check(self, count: int, left: int) -> float:
        """Count bytes that have come, of `left` before them; return the time. Unavailable if they come too slowly."""
        now = time.monotonic()
        self._bytes += count
        if now - self._since > self._timeout:
            if self._bytes < min(_LEAST, left):
                raise Unavailable(
                    f"{self._what}: stalled: {self._bytes} bytes within the progress timeout"
                ) from Transient()
            self._bytes, self._since = 0, now
        return now
