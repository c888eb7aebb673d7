"""A client's connection: bytes from and to one socket, with or without TLS, bounded both ways.

Received bytes lie in one buffer that all connections share, and are handled before the next read: they are not copied
on the way to a descriptor that takes them. Reading stops while any holder has stopped it. Bytes that the client does
not take wait in the transport, at most a piece: senders check `congested` first. Protocol replies are small; if they
pile up anyway, reading pauses until they are sent.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

from kernel.host.aio import FAILURES

PIECE = 256 << 10
"""Bytes that are read at once."""
_MOST_UNSENT = 2 * PIECE
_LINGER = 10.0
"""Seconds that a client has to close its end after all was sent."""


class Handler(Protocol):
    """The receiver of a client's bytes."""

    def received(self, view: memoryview) -> None:
        """Handle bytes that came in; `view` is valid until this returns."""

    def writable(self) -> None:
        """Send more, if there is more: the client has taken all that was sent."""

    def lost(self) -> None:
        """Clean up, as the client has gone. Not called if this side has closed."""


class ClientConnection(asyncio.BufferedProtocol):
    """One connection."""

    def __init__(
        self,
        buffer: memoryview,
        begin: Callable[[ClientConnection], Handler],
        ended: Callable[[ClientConnection], None],
    ) -> None:
        """`begin` is called when the connection is made, and returns its handler; `ended` is called when it is over."""
        self._buffer = buffer
        self._begin = begin
        self._ended = ended
        self._holders: set[object] = set()
        self._closing: asyncio.TimerHandle | None = None
        self._closed = False
        self.congested = False
        """Whether the client does not take the bytes that were sent."""
        self.handler: Handler

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=1, low=0)
        self._secure = self._transport.get_extra_info("sslcontext") is not None
        self.handler = self._begin(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._closed:
            return
        try:
            self.handler.received(self._buffer[:nbytes])
        except OSError as error:
            # asyncio takes an OSError for one of the socket, and would log nothing.
            FAILURES.report("what a client sent", error)
            self.abort()

    def eof_received(self) -> bool:
        return False  # the transport closes: `connection_lost` follows

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closing is not None:
            self._closing.cancel()
        if not self._closed:
            self._closed = True
            self.handler.lost()
        self._ended(self)

    def pause_writing(self) -> None:
        self.congested = True

    def resume_writing(self) -> None:
        self.congested = False
        self.release(self)
        if not self._closed:
            self.handler.writable()

    def write(self, *parts: bytes | memoryview) -> None:
        """Send the parts. None of them is kept after this returns."""
        if self._closed:
            return
        # One send for all; an encrypted transport may keep what it is given for a moment.
        data: bytes | memoryview = b"".join(parts) if len(parts) > 1 or self._secure else parts[0]
        self._transport.write(data if self._secure else memoryview(data))
        if self.congested and self._transport.get_write_buffer_size() > _MOST_UNSENT:
            self.hold(self)

    def hold(self, holder: object) -> None:
        """Read no more until `holder` releases it."""
        if not self._holders:
            with suppress(RuntimeError):  # the transport is closing
                self._transport.pause_reading()
        self._holders.add(holder)

    def release(self, holder: object) -> None:
        """Read on, unless another holder stops it."""
        if holder in self._holders:
            self._holders.remove(holder)
            if not self._holders:
                with suppress(RuntimeError):
                    self._transport.resume_reading()

    @property
    def held(self) -> bool:
        """Whether reading is stopped. While it is, it is not noticed that a client has gone."""
        return bool(self._holders)

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 if it is closed."""
        found: int = self._transport.get_extra_info("socket").fileno()
        return found

    def close(self) -> None:
        """Send no more: bytes sent before are still delivered, received bytes are dropped."""
        if self._closed:
            return
        self._closed = True
        self._holders.clear()
        with suppress(OSError, RuntimeError):
            self._transport.resume_reading()
            if not self._secure:  # TLS has no half-closed connections
                self._transport.write_eof()
        # If a socket is closed with unread input, the bytes sent last are lost, so the client must close first.
        self._closing = asyncio.get_running_loop().call_later(_LINGER, self._end)

    def _end(self) -> None:
        if self._unsent():
            self._closing = asyncio.get_running_loop().call_later(_LINGER, self._end)
        else:
            self._transport.close()

    def _unsent(self) -> int:
        """Return how many bytes the client has not taken yet; the idle timeout ends a client that never takes them."""
        unsent = array.array("i", [0])
        with suppress(OSError):
            fcntl.ioctl(self.fileno(), termios.TIOCOUTQ, unsent)
        return self._transport.get_write_buffer_size() + unsent[0]

    def abort(self) -> None:
        """End at once."""
        self._transport.abort()
