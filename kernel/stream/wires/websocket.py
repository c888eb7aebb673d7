"""WebSocket connections, by the library `websockets` without its input and output.

The library does the handshake, frames, pings and the closing handshake (RFC 6455). No extension is offered, so nothing
is ever decompressed. This module is imported with the first client that uses it: most nodes never have one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from websockets.datastructures import Headers
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from kernel.errors import InvalidInput
from kernel.stream.client.client_connection import ClientConnection
from kernel.stream.client.rate import PINGS, Rate

MOST_MESSAGE = 1 << 20
"""The longest message, in bytes."""
_SWITCHING = 101
_QUIET = logging.getLogger("kernel.stream.wires.websocket.library")
_QUIET.setLevel(logging.CRITICAL)


class _Protocol(ServerProtocol):
    """The server's side, with a subprotocol that was agreed on before.

    The library accepts no name with a slash, and the name of SPDY in WebSockets has one.
    """

    def __init__(self, subprotocol: str) -> None:
        super().__init__(max_size=MOST_MESSAGE, logger=_QUIET)
        self._agreed = Subprotocol(subprotocol) if subprotocol else None

    def process_subprotocol(self, headers: Headers) -> Subprotocol | None:
        return self._agreed


class WebSocket:
    """One connection after its handshake.

    `on_piece` is called with each frame of data: its payload, whether it begins a message, whether it ends it, whether
    it is text.
    """

    def __init__(self, client: ClientConnection, head: bytes, subprotocol: str) -> None:
        """Answer the handshake of the request `head`; raises InvalidInput if it is wrong."""
        self.client = client
        self.on_piece: Callable[[bytes | bytearray | memoryview, bool, bool, bool], None]
        self.on_lost: Callable[[], None]
        self.on_writable: Callable[[], None]
        self._text = False
        self._pings = Rate(*PINGS)
        self._protocol = _Protocol(subprotocol)
        self._protocol.receive_data(head)
        requests = self._protocol.events_received()
        if not requests or not isinstance(requests[0], Request):
            raise InvalidInput("the request is no WebSocket handshake")
        response = self._protocol.accept(requests[0])
        if response.status_code != _SWITCHING:
            raise InvalidInput((response.body or b"").decode(errors="replace").strip().splitlines()[0])
        self._protocol.send_response(response)
        self._flush()

    def received(self, view: memoryview) -> None:
        self._protocol.receive_data(bytes(view))
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._on_frame(event)
        self._flush()
        if self._protocol.close_expected() and self._protocol.state is not State.OPEN:
            self.client.close()
            self.on_lost()

    def writable(self) -> None:
        self.on_writable()

    def lost(self) -> None:
        self.on_lost()

    def send(self, *parts: bytes | memoryview) -> None:
        """Send one binary message."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_binary(b"".join(parts))
            self._flush()

    def send_text(self, data: bytes) -> None:
        """Send one text message, of ASCII."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(data)
            self._flush()

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Begin the closing handshake, after all that was sent."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason[:120])
            self._flush()
        self.client.close()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:  # an empty piece means the end, which `close` takes care of
                self.client.write(data)

    def _on_frame(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY:
                self._text = frame.opcode is Opcode.TEXT
                self.on_piece(frame.data, True, frame.fin, self._text)
            case Opcode.CONT:
                self.on_piece(frame.data, False, frame.fin, self._text)
            case Opcode.PING if not self._pings.take(time.monotonic()):
                self._protocol.fail(CloseCode.POLICY_VIOLATION, "pings come faster than anybody needs them")
            case _:
                pass
