"""An HTTP answer whose header has been read; its body is then read in pieces, or dropped. Runs in a job's thread."""

from __future__ import annotations

import http.client
import re
from contextlib import suppress

from kernel.errors import Unavailable
from services.image.registry.failures import Transient, guarded

_DRAIN_LIMIT = 64 << 10
"""The most bytes of a dropped body that are read so that the connection can be used again."""
_DRAIN_TIMEOUT = 2.0
_HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]{0,16384}")


class Response:
    """An answer of a registry. Unavailable, from the constructor too, if its header is malformed."""

    def __init__(self, raw: http.client.HTTPResponse, connection: http.client.HTTPConnection, host: str) -> None:
        self._raw = raw
        self._connection = connection
        self.host = host
        self.status = raw.status
        self.length = self._content_length()
        """Bytes of the body; None if the header does not tell."""
        for name, value in raw.getheaders():
            if not _HEADER_VALUE.fullmatch(value):
                self.close()
                raise Unavailable(f"registry {host}: its header {name[:40]!a} is malformed")

    def header(self, name: str) -> str:
        """Return the value of a header; empty if there is none."""
        return self._raw.getheader(name, "") or ""

    def headers(self, name: str) -> list[str]:
        """Return the values of a header that may occur several times."""
        return self._raw.headers.get_all(name, [])

    def readinto(self, buffer: memoryview) -> int:
        """Read what has come of the body, waiting for at least one byte; return the number of bytes, 0 at the end.

        Unavailable if no byte comes in time.
        """
        return guarded(self.host, lambda: self._readinto(buffer))

    def _readinto(self, buffer: memoryview) -> int:
        if self._raw.isclosed():
            return 0
        if self._raw.chunked or self.length is None or self._raw.length is None:
            return self._raw.readinto(buffer)
        # HTTPResponse.readinto waits until the buffer is full, and loses what it has if the connection breaks
        count = self._raw.fp.readinto1(buffer[: self._raw.length])
        self._raw.length -= count
        if not self._raw.length:
            self._raw.readinto(buffer[:0])  # so that it notices its end
        return count

    def read(self, limit: int) -> bytes:
        """Return the whole body. Unavailable if it is longer than `limit` bytes or breaks off."""
        body = guarded(self.host, lambda: self._raw.read(limit + 1))
        if len(body) > limit:
            self.close()
            raise Unavailable(f"registry {self.host}: its answer is longer than {limit} bytes")
        if self.length is not None and len(body) != self.length:
            raise Unavailable(
                f"registry {self.host}: broke off after {len(body)} of {self.length} bytes"
            ) from Transient()
        return body

    def close(self) -> None:
        """Finish with this answer: keep the connection if little is left to read, else close it."""
        sock = self._connection.sock
        is_small = self.length is not None and self.length <= _DRAIN_LIMIT
        if is_small and sock is not None and not self._raw.isclosed():
            with suppress(OSError, http.client.HTTPException):  # it is closed below then
                sock.settimeout(_DRAIN_TIMEOUT)
                self._raw.read(self.length)
                sock.settimeout(self._connection.timeout)
        if not self._raw.isclosed():
            self.abandon()

    def abandon(self) -> None:
        """Close this answer and its connection, whatever is left to read."""
        self._raw.close()
        self._connection.close()

    def _content_length(self) -> int | None:
        texts = self.headers("Content-Length")
        if not texts or self._raw.chunked:
            return None
        if len(texts) > 1 or not re.fullmatch(r"[0-9]{1,18}", texts[0].strip(), re.ASCII):
            self.length = None
            self.close()
            raise Unavailable(f"registry {self.host}: its header 'Content-Length' is malformed")
        return int(texts[0])
