"""SPDY/3.1 framing, either side of a connection, without input and output: bytes in, events out. Pure.

Payloads of data frames are handed on as they come in, never gathered: a frame of 16 MiB costs no memory. A control
frame is gathered, and is small. Whatever breaks the protocol ends the connection (`InvalidInput`) or the
one stream with RST_STREAM, as the specification has it.

Flow control. What is received is acknowledged by WINDOW_UPDATE as soon as the reader has taken it (`consumed`). What
is sent keeps to the peer's windows once the peer has shown that it has any, by SETTINGS or WINDOW_UPDATE: the clients
of Kubernetes (moby/spdystream) never update a window and read all the same.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kernel.errors import InvalidInput
from kernel.stream.client.rate import Rate
from kernel.stream.wires.spdy_headers import Compressor, Decompressor

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN, UNIDIRECTIONAL = 1, 2
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, UNSUPPORTED_VERSION, CANCEL, INTERNAL_ERROR, FLOW_CONTROL_ERROR = (
    1, 2, 3, 4, 5, 6, 7,
)  # fmt: skip
"""Statuses of RST_STREAM."""
MOST_CONTROL = 16 << 10
"""Bytes of one control frame."""
MOST_STREAMS = 2048
"""Open at once, of the peer's making."""
MOST_DATA = (1 << 24) - 1
WINDOW = 64 << 10
"""Of each stream and of the connection, until SETTINGS say otherwise."""
_INITIAL_WINDOW_SIZE = 7
_LARGEST_WINDOW = (1 << 31) - 1
_VERSION = 3
_HEAD = struct.Struct(">II")
_CONTROL = struct.Struct(">HHI")
_PAIR = struct.Struct(">II")
_PING_BURST, _PINGS_A_SECOND = 200.0, 20.0


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer has made a stream, and waits for the reply."""

    stream: int
    headers: dict[str, str]
    fin: bool


@dataclass(frozen=True, slots=True)
class Replied:
    """The peer has taken a stream of ours."""

    stream: int
    headers: dict[str, str]
    fin: bool


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of a stream. `data` is good until the next piece is received."""

    stream: int
    data: memoryview
    fin: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer has given up a stream."""

    stream: int
    status: int


@dataclass(frozen=True, slots=True)
class Window:
    """The peer takes more of a stream; of any, where `stream` is 0."""

    stream: int


@dataclass(frozen=True, slots=True)
class GoneAway:
    """The peer makes no more streams."""


Event = Opened | Replied | Data | Reset | Window | GoneAway


class _Stream:
    """What is known of an open stream."""

    __slots__ = ("ended", "finished", "taken", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        """What the peer takes."""
        self.taken = 0
        """Consumed and not acknowledged yet."""
        self.ended = False
        """The peer sends no more."""
        self.finished = False
        """We send no more."""


class Connection:
    """One connection. `receive` what comes in; send what the other methods return, in their order."""

    def __init__(self, *, server: bool) -> None:
        self._next = 2 if server else 1
        self._last = 0
        """The newest stream of the peer's."""
        self._streams: dict[int, _Stream] = {}
        self._compressor: Compressor | None = None
        self._decompressor = Decompressor()
        self._head = b""
        self._data: tuple[int, int, bool] | None = None
        """The data frame under way: stream, bytes to come, whether it is the last."""
        self._replies: list[bytes] = []
        self._initial_window = WINDOW
        self._window = WINDOW
        self._taken = 0
        self._strict = False
        self._gone = False
        self._pings = Rate(_PING_BURST, _PINGS_A_SECOND)

    # What comes in.

    def receive(self, view: memoryview, now: float) -> Iterator[Event]:
        """The events of the bytes that came in at the time `now` (seconds). InvalidInput ends the connection."""
        at, end = 0, len(view)
        while at < end:
            if self._data is not None:
                stream, left, fin = self._data
                taken = min(left, end - at)
                left -= taken
                self._data = (stream, left, fin) if left else None
                if (event := self._on_data(stream, view[at : at + taken], fin=fin and not left)) is not None:
                    yield event
                at += taken
                continue
            need = self._missing()
            if not self._head and end - at >= need:
                frame = view[at : at + need]  # nothing of it is here yet, and all of it has come
            else:
                self._head += view[at : at + need]
                frame = memoryview(self._head)
            at += min(need, end - at)
            if len(frame) < _HEAD.size:
                continue
            first, second = _HEAD.unpack_from(frame)
            length = second & MOST_DATA
            if not first >> 31:
                self._head = b""
                yield from self._begin_data(first, length, fin=bool(second >> 24 & FIN))
            elif len(frame) == _HEAD.size + length:
                body = bytes(frame[_HEAD.size :])
                self._head = b""
                if (event := self._on_control(first, second >> 24, body, now)) is not None:
                    yield event
            else:
                self._check_control(first, length)
                self._head = bytes(frame)

    def replies(self) -> bytes:
        """What is to be sent in answer to what came in."""
        if not self._replies:
            return b""
        found = b"".join(self._replies)
        self._replies.clear()
        return found

    def consumed(self, stream: int, size: int) -> None:
        """The reader has taken so many bytes: the peer may send as many more."""
        self._taken += size
        if self._taken >= WINDOW // 2:
            self._replies.append(_control(WINDOW_UPDATE, _PAIR.pack(0, self._taken)))
            self._taken = 0
        known = self._streams.get(stream)
        if known is not None and not known.ended:
            known.taken += size
            if known.taken >= WINDOW // 2:
                self._replies.append(_control(WINDOW_UPDATE, _PAIR.pack(stream, known.taken)))
                known.taken = 0

    # What goes out.

    def open(self, headers: Mapping[str, str], *, fin: bool = False) -> tuple[int, bytes]:
        """A new stream of ours, and the frame that makes it."""
        stream, self._next = self._next, self._next + 2
        known = self._streams[stream] = _Stream(self._initial_window)
        known.finished = fin
        body = _PAIR.pack(stream, 0) + b"\0\0" + self._block(headers)
        return stream, _control(SYN_STREAM, body, FIN if fin else 0)

    def reply(self, stream: int) -> bytes:
        """Take a stream of the peer's."""
        return _control(SYN_REPLY, struct.pack(">I", stream) + self._block({}))

    def is_open(self, stream: int) -> bool:
        """Whether something may be sent on a stream, now or later."""
        known = self._streams.get(stream)
        return known is not None and not known.finished

    def knows(self, stream: int) -> bool:
        """Whether a stream is open in either direction."""
        return stream in self._streams

    def room(self, stream: int) -> int:
        """How many bytes of a stream may be sent now."""
        known = self._streams.get(stream)
        if known is None or known.finished:
            return 0
        return max(min(known.window, self._window), 0) if self._strict else MOST_DATA

    def data(self, stream: int, size: int, *, fin: bool = False) -> bytes:
        """The head of a data frame; its `size` bytes follow."""
        known = self._streams[stream]
        known.window -= size
        self._window -= size
        if fin:
            known.finished = True
            self._forget(stream, known)
        return _HEAD.pack(stream, (FIN << 24 if fin else 0) | size)

    def reset(self, stream: int, status: int) -> bytes:
        """Give a stream up; nothing where it has ended."""
        if self._streams.pop(stream, None) is None:
            return b""
        return _control(RST_STREAM, _PAIR.pack(stream, status))

    def go_away(self, *, error: bool = False) -> bytes:
        """Say that this side ends."""
        self._gone = True
        return _control(GOAWAY, _PAIR.pack(self._last, int(error)))

    def ping(self, number: int) -> bytes:
        """Ask for a sign of life."""
        return _control(PING, struct.pack(">I", number))

    def settings(self, initial_window: int) -> bytes:
        """Tell the peer how much of each stream may be under way."""
        return _control(SETTINGS, struct.pack(">III", 1, _INITIAL_WINDOW_SIZE, initial_window))

    def windows(self, initial: int) -> bytes:
        """Have the peer keep to `initial` bytes under way of each stream, and to no bound of all together."""
        more = _LARGEST_WINDOW - WINDOW
        return self.settings(initial) + _control(WINDOW_UPDATE, _PAIR.pack(0, more))

    # Frames.

    def _missing(self) -> int:
        """Bytes that the frame under way, or the head of the next, still needs."""
        if len(self._head) < _HEAD.size:
            return _HEAD.size - len(self._head)
        second: int = _HEAD.unpack_from(self._head)[1]
        return _HEAD.size + (second & MOST_DATA) - len(self._head)

    def _block(self, headers: Mapping[str, str]) -> bytes:
        if self._compressor is None:
            self._compressor = Compressor()
        return self._compressor.block(headers)

    def _begin_data(self, stream: int, length: int, *, fin: bool) -> Iterator[Event]:
        if stream == 0:
            raise InvalidInput("a data frame is for stream 0")
        if length:
            self._data = (stream, length, fin)
        elif fin and (event := self._on_data(stream, memoryview(b""), fin=True)) is not None:
            yield event

    def _on_data(self, stream: int, data: memoryview, *, fin: bool) -> Event | None:
        known = self._streams.get(stream)
        if known is None or known.ended:
            self.consumed(stream, len(data))  # of a stream that was given up: thrown away, but its room is free again
            return None
        if fin:
            known.ended = True
            self._forget(stream, known)
        return Data(stream, data, fin)

    def _check_control(self, first: int, length: int) -> None:
        if first >> 16 & 0x7FFF != _VERSION:
            raise InvalidInput(f"a control frame is of version {first >> 16 & 0x7FFF}, not {_VERSION}")
        if length > MOST_CONTROL:
            raise InvalidInput(f"a control frame has {length} bytes, more than {MOST_CONTROL}")

    def _on_control(self, first: int, flags: int, body: bytes, now: float) -> Event | None:
        self._check_control(first, len(body))
        kind = first & 0xFFFF
        match kind:
            case 1:
                return self._on_syn_stream(flags, body)
            case 2 | 8:
                return self._on_headers(kind, flags, body)
            case 3:
                return self._on_reset(body)
            case 4:
                return self._on_settings(body)
            case 6:
                self._on_ping(body, now)
                return None
            case 7:
                return GoneAway()
            case 9:
                return self._on_window(body)
            case _:
                return None  # the specification wants unknown ones ignored

    def _headers(self, block: bytes) -> dict[str, str]:
        return self._decompressor.headers(block)

    def _on_syn_stream(self, flags: int, body: bytes) -> Event | None:
        if len(body) < 10:
            raise InvalidInput("a SYN_STREAM is too short")
        stream = struct.unpack_from(">I", body)[0] & _LARGEST_WINDOW
        headers = self._headers(body[10:])
        if stream % 2 == self._next % 2 or stream <= self._last:
            raise InvalidInput(f"stream {stream} is not a new one of the peer's")
        self._last = stream
        if self._gone:
            return None
        if len(self._streams) >= MOST_STREAMS:
            self._replies.append(_control(RST_STREAM, _PAIR.pack(stream, REFUSED_STREAM)))
            return None
        known = self._streams[stream] = _Stream(self._initial_window)
        known.ended = bool(flags & FIN)
        known.finished = bool(flags & UNIDIRECTIONAL)
        self._forget(stream, known)
        return Opened(stream, headers, known.ended)

    def _on_headers(self, kind: int, flags: int, body: bytes) -> Event | None:
        """SYN_REPLY, and HEADERS: which say nothing that anybody here asks for, but may end a stream."""
        if len(body) < 4:
            raise InvalidInput("a frame with headers is too short")
        stream = struct.unpack_from(">I", body)[0] & _LARGEST_WINDOW
        headers = self._headers(body[4:])
        known = self._streams.get(stream)
        if known is None:
            return None
        fin = bool(flags & FIN) and not known.ended
        if fin:
            known.ended = True
            self._forget(stream, known)
        if kind == SYN_REPLY:
            return Replied(stream, headers, fin)
        return Data(stream, memoryview(b""), fin=True) if fin else None

    def _on_reset(self, body: bytes) -> Event | None:
        stream, status = _pair(body, "RST_STREAM")
        return Reset(stream, status) if self._streams.pop(stream, None) is not None else None

    def _on_settings(self, body: bytes) -> Event | None:
        count = struct.unpack_from(">I", body)[0] if len(body) >= 4 else -1
        if count * 8 + 4 != len(body):
            raise InvalidInput(f"a SETTINGS frame of {len(body)} bytes says that it has {count} entries")
        for key, value in struct.iter_unpack(">II", body[4:]):
            if key & 0xFFFFFF == _INITIAL_WINDOW_SIZE:
                if value > _LARGEST_WINDOW:
                    raise InvalidInput(f"an initial window has {value} bytes")
                self._strict = True
                for known in self._streams.values():
                    known.window += value - self._initial_window
                self._initial_window = value
        return Window(0)

    def _on_ping(self, body: bytes, now: float) -> None:
        if len(body) != 4:
            raise InvalidInput(f"a PING has {len(body)} bytes")
        number = struct.unpack(">I", body)[0]
        if number % 2 == self._next % 2:
            return  # the answer to one of ours
        if not self._pings.take(now):
            raise InvalidInput("pings come faster than anybody needs them")
        self._replies.append(self.ping(number))

    def _on_window(self, body: bytes) -> Event | None:
        stream, more = _pair(body, "WINDOW_UPDATE")
        more &= _LARGEST_WINDOW
        self._strict = True
        known = self._streams.get(stream)
        if stream and known is None:
            return None
        before = known.window if known is not None else self._window
        if not more or before + more > _LARGEST_WINDOW:
            if known is None:
                raise InvalidInput(f"the connection's window cannot grow by {more}")
            self._replies.append(self.reset(stream, FLOW_CONTROL_ERROR if more else PROTOCOL_ERROR))
            return Reset(stream, FLOW_CONTROL_ERROR)
        if known is None:
            self._window += more
        else:
            known.window += more
        return Window(stream)

    def _forget(self, stream: int, known: _Stream) -> None:
        if known.ended and known.finished:
            self._streams.pop(stream, None)


def _control(kind: int, body: bytes, flags: int = 0) -> bytes:
    return _CONTROL.pack(0x8000 | _VERSION, kind, flags << 24 | len(body)) + body


def _pair(body: bytes, what: str) -> tuple[int, int]:
    if len(body) != _PAIR.size:
        raise InvalidInput(f"a {what} has {len(body)} bytes")
    first, second = _PAIR.unpack(body)
    return first & _LARGEST_WINDOW, second
