"""Port-forward: connections into a pod, each a pair of channels, `data` both ways and `error` to the client.

Each pair has a number. The front gets the event to dial; then either the connection arrives by `passed`, or the reason
for its failure by `refused`. A client with SPDY makes pairs at any time; one with a WebSocket has all of them from the
beginning, and each of its channels begins with the port.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from contextlib import suppress

from kernel.contracts.stream import Dial, ExpectRequest, Opened, Passed, Role
from kernel.stream.client.upgrade import TUNNEL, Refused, UpgradeRequest, port
from kernel.stream.sessions.client_session import DESCRIPTORS_SECONDS, STREAMS_SECONDS, ClientSession, Service
from kernel.stream.sessions.descriptor_io import Sink, Source
from kernel.stream.wires.channel import Channel

_LOG = logging.getLogger(__name__)
MOST_CONNECTIONS = 1024
"""The most connections that one session may have at once."""


class _Pair:
    """A pair of channels, and the connection to which they lead."""

    __slots__ = ("data", "error", "number", "port", "sink", "source")

    def __init__(self, number: int, port: int) -> None:
        self.number = number
        self.port = port
        self.data: Channel | None = None
        self.error: Channel | None = None
        self.sink: Sink | None = None
        self.source: Source | None = None


class PortForward(ClientSession):
    """A port-forward."""

    def __init__(self, request: ExpectRequest, http_request: UpgradeRequest, service: Service) -> None:
        super().__init__(request, http_request, service)
        self._at_once = http_request.websocket and http_request.protocol != TUNNEL
        """Whether all connections are there from the beginning."""
        self._numbers = 0
        self._pairs: dict[str, _Pair] = {}
        """Pairs that lack a channel, by the client's own id."""
        self._connections: dict[int, _Pair] = {}
        """Complete pairs by their number."""

    def opened(self, channel: Channel, headers: dict[str, str]) -> str:
        kind = headers.get("streamtype", "")
        if self.over:
            return "the session is over"
        try:
            number = port(headers.get("port", ""))
        except Refused as refused:
            return refused.message
        if kind not in ("data", "error"):
            return f"stream type {kind[:80]!a} is neither data nor error"
        if len(self._pairs) + len(self._connections) >= MOST_CONNECTIONS:
            return f"there are {MOST_CONNECTIONS} connections already"
        name = headers.get("requestid") or self._pseudo_name(kind, channel)
        pair = self._pairs.get(name)
        if pair is None:
            self._numbers += 1
            pair = self._pairs[name] = _Pair(self._numbers, number)
            self._limit(f"pair {name}", STREAMS_SECONDS, lambda: self._on_half_a_pair(name))
        if getattr(pair, kind) is not None:
            return f"request {name[:80]!a} has its {kind} stream already"
        if kind == "data":
            pair.data, pair.port = channel, number
            pair.sink = Sink(channel)
            channel.on_reset = lambda: self._forget(pair)
        else:
            pair.error = channel
        if pair.data is not None and pair.error is not None:
            del self._pairs[name]
            self._stop(f"pair {name}")
            self._begin(pair)
        return ""

    @staticmethod
    def _pseudo_name(kind: str, channel: Channel) -> str:
        """Return an id for a client that gives none: it makes the error stream first and the data stream next."""
        stream = getattr(channel, "stream", 0)
        return f"stream {stream if kind == 'error' else stream - 2}"

    def _on_half_a_pair(self, name: str) -> None:
        pair = self._pairs.pop(name)
        for channel in (pair.data, pair.error):
            if channel is not None:
                channel.reset()

    def _begin(self, pair: _Pair) -> None:
        self._connections[pair.number] = pair
        if self._at_once:
            for channel in (pair.data, pair.error):
                assert channel is not None  # the pair is complete
                channel.send(memoryview(struct.pack("<H", pair.port)))
        self._limit(
            f"dial {pair.number}", DESCRIPTORS_SECONDS, lambda: self.refused(pair.number, "nothing came of it in time")
        )
        self.service.report(self._dial(pair))

    def _dial(self, pair: _Pair) -> Dial:
        given = self.request
        return Dial(session=given.session, connection=pair.number, target=given.target, port=pair.port)

    def pending(self) -> tuple[Opened | Dial, ...]:
        return tuple(self._dial(pair) for pair in self._connections.values() if pair.source is None)

    def passed(self, message: Passed, fds: list[int]) -> bool:
        pair = self._connections.get(message.connection)
        if self.over or pair is None or pair.source is not None or message.roles != (Role.CONNECTION,):
            return False
        assert pair.data is not None  # the pair is complete
        assert pair.sink is not None
        self._stop(f"dial {pair.number}")
        os.set_blocking(fds[0], False)
        pair.source = Source(fds[0], self.service.buffer, pair.data.room, pair.data.send, lambda: self._on_end(pair))
        pair.data.on_room = pair.source.resume
        pair.sink.open(os.dup(fds[0]), _end_input)
        return True

    def refused(self, connection: int, reason: str) -> None:
        pair = self._connections.get(connection)
        if pair is None or pair.source is not None:
            return
        assert pair.error is not None  # the pair is complete
        message = f"error forwarding port {pair.port} to pod {self.request.target}, uid : {reason}"
        pair.error.send(memoryview(message.encode()))
        self._on_end(pair)

    def _on_end(self, pair: _Pair) -> None:
        """End the channels, because the pod sends no more."""
        for channel in (pair.data, pair.error):
            assert channel is not None  # the pair is complete
            channel.finish()
        self._forget(pair)

    def _forget(self, pair: _Pair) -> None:
        self._connections.pop(pair.number, None)
        self._stop(f"dial {pair.number}")
        if pair.source is not None:
            pair.source.close()
        if pair.sink is not None:
            pair.sink.close()
        if self._at_once and not self._connections and not self.over:
            self.wire.close()
            self._end()

    def _release(self) -> None:
        for pair in (*self._connections.values(), *self._pairs.values()):
            if pair.source is not None:
                pair.source.close()
            if pair.sink is not None:
                pair.sink.close()


def _end_input(fd: int) -> None:
    with socket.socket(fileno=fd) as end, suppress(OSError):  # the pod has gone already
        end.shutdown(socket.SHUT_WR)
