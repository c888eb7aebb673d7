"""One connection: received bytes become events, and the bytes to send are returned. Pure.

A peer that breaks the protocol ends the connection (`ProtocolError`) or the one stream with RST_STREAM, as the
specification requires.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from kernel.stream.wires.spdy import frames
from kernel.stream.wires.spdy.errors import ProtocolError
from kernel.stream.wires.spdy.events import Data, Event, GoneAway, Opened, Replied, Reset, Window
from kernel.stream.wires.spdy.frames import FIN, LARGEST_ID, UNIDIRECTIONAL, Control, FrameReader, Kind, Status
from kernel.stream.wires.spdy.headers import Compressor, Decompressor
from kernel.stream.wires.spdy.streams import WINDOW, Streams


class Connection:
    """One connection. Pass received bytes to `receive`; send the results of the other methods, in the order of their
    calls."""

    def __init__(self, *, server: bool, allow_ping: Callable[[float], bool] | None = None) -> None:
        """Begin a connection. `allow_ping` is called with the time (seconds) of each PING of the peer; False ends the
        connection. None: any number is answered."""
        self._next = 2 if server else 1
        self._last = 0
        """The newest stream of the peer."""
        self._streams = Streams()
        self._compressor: Compressor | None = None
        self._decompressor = Decompressor()
        self._reader = FrameReader()
        self._replies: list[bytes] = []
        self._gone = False
        self._allow_ping = allow_ping

    # Receiving.

    def receive(self, view: memoryview, now: float) -> Iterator[Event]:
        """Yield the events of bytes that came in at the time `now` (seconds). A ProtocolError ends the connection."""
        for frame in self._reader.frames(view):
            event = self._on_control(frame, now) if isinstance(frame, Control) else self._on_data(*frame)
            if event is not None:
                yield event

    def replies(self) -> bytes:
        """Return the bytes to send in answer to received ones."""
        if not self._replies:
            return b""
        found = b"".join(self._replies)
        self._replies.clear()
        return found

    def consumed(self, stream: int, size: int) -> None:
        """Record that the reader has taken `size` bytes: the peer may send as many more."""
        if credit := self._streams.consumed(stream, size):
            self._replies.append(credit)

    # Sending.

    def open(self, headers: Mapping[str, str], *, fin: bool = False) -> tuple[int, bytes]:
        """Make a stream. Returns its id, and the frame that makes it."""
        stream, self._next = self._next, self._next + 2
        self._streams.add(stream).finished = fin
        return stream, frames.syn_stream(stream, self._block(headers), fin=fin)

    def reply(self, stream: int) -> bytes:
        """Return the frame that accepts a stream of the peer."""
        return frames.syn_reply(stream, self._block({}))

    def is_open(self, stream: int) -> bool:
        """Return whether data may be sent on a stream, now or later."""
        known = self._streams.get(stream)
        return known is not None and not known.finished

    def knows(self, stream: int) -> bool:
        """Return whether a stream is open in either direction."""
        return self._streams.get(stream) is not None

    def room(self, stream: int) -> int:
        """Return how many bytes of a stream may be sent now."""
        return self._streams.room(stream)

    def data(self, stream: int, size: int, *, fin: bool = False) -> bytes:
        """Return the head of a data frame of an open stream; its `size` bytes follow."""
        known = self._streams.get(stream)
        if known is None:
            raise KeyError(stream)
        self._streams.sent(known, size)
        if fin:
            self._streams.finish(stream, known)
        return frames.data_head(stream, size, fin=fin)

    def reset(self, stream: int, status: int) -> bytes:
        """Abandon a stream and return the frame that does so; nothing if it has ended."""
        return frames.rst_stream(stream, status) if self._streams.drop(stream) else b""

    def go_away(self, *, error: bool = False) -> bytes:
        """Accept no more streams, and return the frame for that."""
        self._gone = True
        return frames.goaway(self._last, int(error))

    def ping(self, number: int) -> bytes:
        """Return a frame that the peer answers."""
        return frames.ping(number)

    def settings(self, initial_window: int) -> bytes:
        """Return the frame that limits the bytes of each stream that the peer may have under way."""
        return frames.settings(initial_window)

    def windows(self, initial: int) -> bytes:
        """Return frames that limit each stream of the peer to `initial` bytes under way, and all together to no
        bound."""
        return frames.settings(initial) + frames.window_update(0, LARGEST_ID - WINDOW)

    # Frames of the peer.

    def _block(self, headers: Mapping[str, str]) -> bytes:
        if self._compressor is None:
            self._compressor = Compressor()
        return self._compressor.block(headers)

    def _on_data(self, stream: int, data: memoryview, fin: bool) -> Event | None:
        known = self._streams.get(stream)
        if known is None or known.ended:
            # The stream was abandoned: its data is dropped, but the connection's window is free again.
            self.consumed(stream, len(data))
            return None
        if fin:
            self._streams.end(stream, known)
        return Data(stream, data, fin)

    def _on_control(self, frame: Control, now: float) -> Event | None:
        kind, flags, body = frame
        match kind:
            case Kind.SYN_STREAM:
                return self._on_syn_stream(flags, body)
            case Kind.SYN_REPLY | Kind.HEADERS:
                return self._on_headers(kind, flags, body)
            case Kind.RST_STREAM:
                stream, status = frames.pair(body, "RST_STREAM")
                return Reset(stream, status) if self._streams.drop(stream) else None
            case Kind.SETTINGS:
                for window in frames.initial_windows(body):
                    self._streams.start_with(window)
                return Window(0)
            case Kind.PING:
                self._on_ping(frames.number(body), now)
                return None
            case Kind.GOAWAY:
                return GoneAway()
            case Kind.WINDOW_UPDATE:
                return self._on_window_update(body)
            case _:
                return None  # unknown types are ignored (section 2.2.1)

    def _on_syn_stream(self, flags: int, body: bytes) -> Event | None:
        stream = frames.stream_id(body, 10, "a SYN_STREAM")
        headers = self._decompressor.headers(body[10:])
        if stream % 2 == self._next % 2 or stream <= self._last:
            raise ProtocolError(f"stream {stream} is not a new one of the peer's")
        self._last = stream
        if self._gone:
            return None
        if self._streams.full:
            self._replies.append(frames.rst_stream(stream, Status.REFUSED_STREAM))
            return None
        known = self._streams.add(stream)
        known.finished = bool(flags & UNIDIRECTIONAL)
        if flags & FIN:
            self._streams.end(stream, known)
        return Opened(stream, headers, known.ended)

    def _on_headers(self, kind: int, flags: int, body: bytes) -> Event | None:
        """Handle SYN_REPLY or HEADERS. The headers of the latter are not used, but it may end a stream."""
        stream = frames.stream_id(body, 4, "a frame with headers")
        headers = self._decompressor.headers(body[4:])
        known = self._streams.get(stream)
        if known is None:
            return None
        fin = bool(flags & FIN) and not known.ended
        if fin:
            self._streams.end(stream, known)
        if kind == Kind.SYN_REPLY:
            return Replied(stream, headers, fin)
        return Data(stream, memoryview(b""), fin=True) if fin else None

    def _on_ping(self, number: int, now: float) -> None:
        if number % 2 == self._next % 2:
            return  # the answer to a PING of this side
        if self._allow_ping is not None and not self._allow_ping(now):
            raise ProtocolError("pings come faster than anybody needs them")
        self._replies.append(frames.ping(number))

    def _on_window_update(self, body: bytes) -> Event | None:
        stream, more = frames.pair(body, "WINDOW_UPDATE")
        more &= LARGEST_ID
        if self._streams.grow(stream, more):
            return Window(stream) if not stream or self.knows(stream) else None
        status = Status.FLOW_CONTROL_ERROR if more else Status.PROTOCOL_ERROR
        self._replies.append(self.reset(stream, status))
        return Reset(stream, Status.FLOW_CONTROL_ERROR)
