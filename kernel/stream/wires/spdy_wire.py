"""A session's channels as streams of a SPDY connection, directly on the client's socket or inside a WebSocket."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from kernel.stream.client.client_connection import ClientConnection
from kernel.stream.client.rate import PINGS, Rate
from kernel.stream.wires import spdy
from kernel.stream.wires.carrier import Backlog, Owner
from kernel.stream.wires.channel import Channel

_LOG = logging.getLogger(__name__)


class Write(Protocol):
    """A function that sends bytes to the client, on the connection itself or in a frame of a WebSocket."""

    def __call__(self, *parts: bytes | memoryview) -> None: ...


class SpdyChannel(Channel):
    """One stream."""

    def __init__(self, wire: SpdyWire, stream: int) -> None:
        super().__init__()
        self.stream = stream
        self._wire = wire
        self.unsent = bytearray()
        """Bytes for which the client's windows have no room."""
        self._finished = False

    def room(self) -> int:
        return 0 if self.unsent or self._wire.client.congested else self._wire.spdy.room(self.stream)

    def send(self, data: memoryview) -> None:
        room = 0 if self.unsent else self._wire.spdy.room(self.stream)
        if room and data:
            self._wire.send(self.stream, data[:room])
        if len(data) > room and self._wire.spdy.is_open(self.stream):
            self.unsent += data[room:]

    def finish(self) -> None:
        self._finished = True
        if not self.unsent and self._wire.spdy.is_open(self.stream):
            self._wire.send(self.stream, memoryview(b""), fin=True)
            self._wire.tidy(self.stream)

    def reset(self) -> None:
        self.unsent.clear()
        self._wire.reset(self.stream)

    def set_backlog(self, size: int) -> None:
        self._wire.backlog.set(self, size)

    def consumed(self, size: int) -> None:
        self._wire.consumed(self.stream, size)

    def may_send(self) -> None:
        """Send waiting bytes: the client's windows have grown, or it has taken earlier ones."""
        if self.unsent and (room := self._wire.spdy.room(self.stream)):
            piece = bytes(self.unsent[:room])
            del self.unsent[:room]
            self._wire.send(self.stream, memoryview(piece))
            if self._finished:
                self.finish()
        if self.room():
            self.on_room()


class SpdyWire:
    """The server's side of one connection. `write` sends bytes to the client."""

    def __init__(self, client: ClientConnection, owner: Owner, write: Write) -> None:
        self.client = client
        self.end: Callable[[], None] = client.close
        """Ends the connection that carries this wire."""
        self.spdy = spdy.Connection(server=True, allow_ping=Rate(*PINGS).take)
        self.backlog = Backlog(client)
        self._owner = owner
        self._write = write
        self._channels: dict[int, SpdyChannel] = {}
        self._receiving = False
        self._closing = False

    def received(self, view: memoryview) -> None:
        self._receiving = True
        try:
            for event in self.spdy.receive(view, time.monotonic()):
                self._on_event(event)
        except spdy.ProtocolError as error:
            _LOG.info("a client broke the SPDY protocol: %s", error)
            self._write(self.spdy.go_away(error=True))
            self.end()
            self._owner.lost()
            return
        finally:
            self._receiving = False
        self._flush()

    def writable(self) -> None:
        for channel in list(self._channels.values()):
            channel.may_send()
        if self._closing:
            self.close()

    def lost(self) -> None:
        self._owner.lost()

    def close(self) -> None:
        """Send GOAWAY and end the connection, once all is sent."""
        self._closing = True
        if not any(channel.unsent for channel in self._channels.values()):
            self._write(self.spdy.go_away())
            self.end()

    def send(self, stream: int, data: memoryview, *, fin: bool = False) -> None:
        """Send a data frame of an open stream."""
        self._owner.active()
        self._write(self.spdy.data(stream, len(data), fin=fin), data)

    def consumed(self, stream: int, size: int) -> None:
        """Credit the client's window: the reader has taken `size` bytes of the stream."""
        self.spdy.consumed(stream, size)
        if not self._receiving:
            self._flush()

    def reset(self, stream: int) -> None:
        """Abandon a stream."""
        self._channels.pop(stream, None)
        if frame := self.spdy.reset(stream, spdy.Status.CANCEL):
            self._write(frame)

    def _flush(self) -> None:
        if replies := self.spdy.replies():
            self._write(replies)

    def _on_event(self, event: spdy.Event) -> None:
        match event:
            case spdy.Data(stream, data, fin):
                channel = self._channels.get(stream)
                if channel is None:
                    self.spdy.consumed(stream, len(data))
                    return
                if data:
                    self._owner.active()
                    channel.on_data(data)
                if fin:
                    channel.on_end()
                    self.tidy(stream)
            case spdy.Opened(stream, headers, fin):
                self._open(stream, headers, fin=fin)
            case spdy.Window(stream):
                for one in [self._channels[stream]] if stream in self._channels else list(self._channels.values()):
                    one.may_send()
                if self._closing:
                    self.close()
            case spdy.Reset(stream):
                if (gone := self._channels.pop(stream, None)) is not None:
                    self.backlog.set(gone, 0)
                    gone.on_reset()
            case spdy.Replied() | spdy.GoneAway():
                pass

    def _open(self, stream: int, headers: dict[str, str], *, fin: bool) -> None:
        channel = SpdyChannel(self, stream)
        reason = self._owner.opened(channel, headers)
        if reason:
            _LOG.info("a client's stream is refused: %s", reason)
            self._write(self.spdy.reset(stream, spdy.Status.REFUSED_STREAM))
            return
        self._channels[stream] = channel
        self._write(self.spdy.reply(stream))
        if fin:
            channel.on_end()

    def tidy(self, stream: int) -> None:
        """Forget a stream that has ended in both directions."""
        if not self.spdy.knows(stream):
            self._channels.pop(stream, None)
