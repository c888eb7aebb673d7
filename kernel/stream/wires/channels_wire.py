"""A session's channels as messages of a WebSocket: the first byte is the number of the message's channel.

In the `base64` subprotocols messages are text, the channel's number a digit and the rest base64. With `v5` a message
of two bytes, 255 and a channel's number, ends that channel's input.
"""

from __future__ import annotations

import base64
import binascii

from kernel.stream.client.client_connection import PIECE
from kernel.stream.wires.carrier import Backlog, Owner
from kernel.stream.wires.channel import Channel
from kernel.stream.wires.websocket import WebSocket

_CLOSE = 255
_UNSUPPORTED_DATA, _INVALID_DATA = 1003, 1007


class WebSocketChannel(Channel):
    """The channel of one number."""

    def __init__(self, wire: ChannelsWire, number: int) -> None:
        super().__init__()
        self.number = number
        self.ended = False
        self._wire = wire
        self._prefix = bytes([number])

    def room(self) -> int:
        return 0 if self._wire.client.congested else PIECE

    def send(self, data: memoryview) -> None:
        self._wire.send(self._prefix, self.number, data)

    def finish(self) -> None:
        """Do nothing: the protocol ends all channels at once."""

    def reset(self) -> None:
        """Do nothing: the protocol ends all channels at once."""

    def set_backlog(self, size: int) -> None:
        self._wire.backlog.set(self, size)

    def consumed(self, size: int) -> None:
        """Do nothing: the protocol has no windows."""


class ChannelsWire:
    """One connection, whose channels exist from the beginning."""

    def __init__(
        self, socket: WebSocket, owner: Owner, channels: tuple[dict[str, str], ...], *, text: bool, closes: bool
    ) -> None:
        """Make the channels. `channels`: the headers that a stream would have for each. `text`: whether messages are in
        base64. `closes`: whether the client can end a channel."""
        self.client = socket.client
        self.backlog = Backlog(socket.client)
        self._socket = socket
        self._owner = owner
        self._text = text
        self._closes = closes
        self._current: WebSocketChannel | None = None
        self._message = bytearray()
        """The bytes received of a message that is handled only when complete."""
        self._gathering = False
        self.channels = [WebSocketChannel(self, number) for number in range(len(channels))]
        socket.on_piece = self._on_piece
        socket.on_lost = owner.lost
        socket.on_writable = self._on_writable
        owner.wire = self
        for channel, headers in zip(self.channels, channels, strict=True):
            owner.opened(channel, headers)

    def send(self, prefix: bytes, number: int, data: memoryview) -> None:
        """Send a message on a channel."""
        self._owner.active()
        if self._text:
            self._socket.send_text(b"%d%s" % (number, base64.b64encode(data)))
        else:
            self._socket.send(prefix, data)

    def close(self) -> None:
        """Begin the closing handshake, after all that was sent."""
        self._socket.close()

    def _on_writable(self) -> None:
        for channel in self.channels:
            channel.on_room()

    def _on_piece(self, data: bytes | bytearray | memoryview, first: bool, last: bool, text: bool) -> None:
        if first and text is not self._text:
            self._refuse(_UNSUPPORTED_DATA, "messages of this subprotocol are " + ("text" if self._text else "binary"))
            return
        if first:
            self._gathering = self._text or (self._closes and bytes(data[:1]) in (b"", b"\xff"))
            self._message.clear()
            if not self._gathering:
                self._current = self._channel(data[0]) if data else None
                data = memoryview(data)[1:]
        if self._gathering:
            self._message += data
            if last:
                self._on_message(bytes(self._message))
                self._message.clear()
        elif data and self._current is not None:
            self._deliver(self._current, memoryview(data))

    def _on_message(self, message: bytes) -> None:
        if not message:
            return
        if self._text:
            try:
                data = base64.b64decode(message[1:], validate=True)
            except binascii.Error:
                self._refuse(_INVALID_DATA, "a message is not base64")
                return
            channel = self._channel(message[0] - ord("0"))
            if channel is not None:
                self._deliver(channel, memoryview(data))
        elif message[0] != _CLOSE:
            # The first piece of the message was empty.
            channel = self._channel(message[0])
            if channel is not None:
                self._deliver(channel, memoryview(message)[1:])
        elif len(message) != len((_CLOSE, 0)):
            self._refuse(_INVALID_DATA, "255 is followed by the number of one channel")
        elif (channel := self._channel(message[1])) is not None and not channel.ended:
            channel.ended = True
            channel.on_end()

    def _channel(self, number: int) -> WebSocketChannel | None:
        """Return a channel; None if there is none, because messages for such a channel are ignored."""
        return self.channels[number] if 0 <= number < len(self.channels) else None

    def _deliver(self, channel: WebSocketChannel, data: memoryview) -> None:
        if data and not channel.ended:
            self._owner.active()
            channel.on_data(data)

    def _refuse(self, code: int, reason: str) -> None:
        self._socket.close(code, reason)
        self._owner.lost()
