"""A client of the stream process: one connection, its streams, and the data received on them."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from kernel.config.sections import StreamSection
from kernel.errors import FailedPrecondition, Internal, Unavailable
from kernel.stream.wires import spdy

_PIECE = 128 << 10
_MOST_HEAD = 16 << 10
_CONNECT_SECONDS = 10.0


class SpdyClient:
    """One upgraded connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._spdy = spdy.Connection(server=False)

    @classmethod
    async def connect(cls, url: str, protocol: str, section: StreamSection) -> SpdyClient:
        """Begin the session of a URL; Unavailable if the stream process refuses it or does not answer."""
        parts = urlsplit(url)
        tls = _trust(section) if parts.scheme == "https" else None
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(
                    parts.hostname, parts.port, ssl=tls, limit=_MOST_HEAD, server_hostname="" if tls else None
                )
                writer.write(
                    f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\n"
                    f"Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n\r\n".encode()
                )
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 101 "):
                    reason = (await reader.read(1000)).decode(errors="replace").strip()
                    writer.close()
                    raise Unavailable(f"the stream process at {parts.netloc}: {reason}")
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise Unavailable(
                f"the stream process at {parts.netloc}: {str(error) or 'no answer'}", hint="see `crisp workers`"
            ) from error
        made = cls(reader, writer)
        writer.write(made._spdy.windows(spdy.WINDOW))
        return made

    def open(self, **headers: str) -> int:
        """Make a stream and return its id."""
        stream, frame = self._spdy.open(headers)
        self._writer.write(frame)
        return stream

    async def send(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        """Send bytes on a stream, unless it has ended. Waits until the server takes them."""
        if self._spdy.is_open(stream):
            self._writer.write(self._spdy.data(stream, len(data), fin=fin) + data)
            await self._writer.drain()

    def reset(self, stream: int) -> None:
        """Abandon a stream."""
        self._writer.write(self._spdy.reset(stream, spdy.Status.CANCEL))

    async def receive(self, on_data: Callable[[int, memoryview, bool], None]) -> None:
        """Call `on_data` with each piece of a stream, and whether it is the last, until the server ends.

        `on_data` calls `consumed` when it has handled a piece: the server sends no more than a window of each stream
        before that.
        """
        while data := await self._reader.read(_PIECE):
            try:
                for event in self._spdy.receive(memoryview(data), time.monotonic()):
                    match event:
                        case spdy.Data(stream, piece, fin):
                            on_data(stream, piece, fin)
                        case spdy.GoneAway():
                            return
                        case spdy.Reset(stream):
                            on_data(stream, memoryview(b""), True)
                        case _:
                            pass
            except spdy.ProtocolError as error:
                raise Internal(f"the stream process broke the SPDY protocol: {error}") from error
            self._flush()
            await self._writer.drain()

    def consumed(self, stream: int, size: int) -> None:
        """Note that `size` bytes of a stream are handled: the server may send as many more."""
        self._spdy.consumed(stream, size)
        self._flush()

    def _flush(self) -> None:
        if replies := self._spdy.replies():
            self._writer.write(replies)

    def close(self) -> None:
        """End the session."""
        self._writer.close()


def _trust(section: StreamSection) -> ssl.SSLContext:
    """Return a context that trusts the server's certificate, which is in the configuration."""
    if section.tls_ca:
        raise FailedPrecondition(
            "the stream process takes only clients with a certificate (stream.tls_ca), and crisp has none",
            hint="use a client that has one",
        )
    context = ssl.create_default_context(cafile=str(Path(section.tls_cert)))
    context.check_hostname = False
    return context
