"""An HTTP answer whose header has been read; its body is then read in pieces, or dropped. Runs in a job's thread."""

from __future__ import annotations

import re
from contextlib import suppress

import h11

from kernel.errors import Unavailable
from services.image.registry.failures import Transient, guarded
from services.image.registry.http_connection import Exchange, HttpConnection

_DRAIN_LIMIT = 64 << 10
"""The most bytes of a dropped body that are read so that the connection can be used again."""
_DRAIN_TIMEOUT = 2.0
_PIECE = 64 << 10
_HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]{0,16384}")


class Response:
    """An answer of a registry. Unavailable, from the constructor too, if its header is malformed."""

    def __init__(self, exchange: Exchange, connection: HttpConnection, host: str) -> None:
        self._exchange = exchange
        self._connection = connection
        self.host = host
        self.status = exchange.status
        self.length = exchange.length
        """Bytes of the body; None if the header does not give it."""
        for name, value in exchange.headers:
            if not _HEADER_VALUE.fullmatch(value):
                self.close()
                raise Unavailable(f"registry {host}: its header {name[:40]!a} is malformed")

    def header(self, name: str) -> str:
        """Return the value of a header; empty if there is none. If it occurs several times, commas part the values."""
        return ", ".join(self.headers(name))

    def headers(self, name: str) -> list[str]:
        """Return the values of a header that may occur several times."""
        wanted = name.lower()
        return [value for known, value in self._exchange.headers if known == wanted]

    def readinto(self, buffer: memoryview) -> int:
        """Read the bytes of the body that have arrived, waiting for at least one; return their number, 0 at the end.

        Unavailable if no byte comes in time.
        """
        return guarded(self.host, lambda: self._exchange.readinto(buffer))

    def read(self, limit: int) -> bytes:
        """Return the whole body. Unavailable if it is longer than `limit` bytes or breaks off."""
        body, piece = bytearray(), memoryview(bytearray(min(_PIECE, limit + 1)))
        while len(body) <= limit and (count := self.readinto(piece)):
            body += piece[:count]
        if len(body) > limit:
            self.close()
            raise Unavailable(f"registry {self.host}: its answer is longer than {limit} bytes")
        if self.length is not None and len(body) != self.length:
            raise Unavailable(
                f"registry {self.host}: broke off after {len(body)} of {self.length} bytes"
            ) from Transient()
        return bytes(body)

    def close(self) -> None:
        """Finish with this answer: keep the connection if little is left to read, else close it."""
        if not self._exchange.is_finished and self.length is not None and self.length <= _DRAIN_LIMIT:
            sock, piece = self._connection.sock, memoryview(bytearray(_DRAIN_LIMIT))
            with suppress(OSError, h11.ProtocolError):  # it is closed below then
                timeout = sock.gettimeout()
                sock.settimeout(_DRAIN_TIMEOUT)
                while self._exchange.readinto(piece):
                    pass
                if self._connection.is_open:
                    sock.settimeout(timeout)
        if not self._exchange.is_finished:
            self.abandon()

    def abandon(self) -> None:
        """Close this answer's connection, whatever is left to read."""
        self._exchange.abandon()
