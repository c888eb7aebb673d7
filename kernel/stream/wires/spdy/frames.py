"""Frames of SPDY/3.1 (section 2.2): written by functions, read by `FrameReader`. Pure.

Payloads of data frames are passed on as they arrive and never collected: a frame of 16 MiB costs no memory. A control
frame is collected, and is small.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import NamedTuple

from kernel.stream.wires.spdy.errors import ProtocolError

VERSION = 3
FIN, UNIDIRECTIONAL = 1, 2
"""Flags of frames."""
MOST_DATA = (1 << 24) - 1
"""The longest payload of a frame, in bytes: lengths have 24 bits."""
MOST_CONTROL = 16 << 10
"""The longest control frame that is accepted, in bytes."""
LARGEST_ID = (1 << 31) - 1
"""The largest id of a stream, and the largest window: both have 31 bits."""
INITIAL_WINDOW_SIZE = 7
"""The setting's id (section 2.6.4)."""
_HEAD = struct.Struct(">II")
_CONTROL = struct.Struct(">HHI")
_PAIR = struct.Struct(">II")
_NUMBER = struct.Struct(">I")


class Kind(enum.IntEnum):
    """Types of control frames (section 2.6)."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class Status(enum.IntEnum):
    """Statuses of RST_STREAM (section 2.6.3)."""

    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    UNSUPPORTED_VERSION = 4
    CANCEL = 5
    INTERNAL_ERROR = 6
    FLOW_CONTROL_ERROR = 7


# Frames to bytes.


def data_head(stream: int, size: int, *, fin: bool) -> bytes:
    """Return the head of a data frame with `size` bytes."""
    return _HEAD.pack(stream, (FIN << 24 if fin else 0) | size)


def control(kind: int, body: bytes, flags: int = 0) -> bytes:
    """Return a control frame."""
    return _CONTROL.pack(0x8000 | VERSION, kind, flags << 24 | len(body)) + body


def syn_stream(stream: int, block: bytes, *, fin: bool) -> bytes:
    """Return the frame that makes a stream, with its header block."""
    return control(Kind.SYN_STREAM, _PAIR.pack(stream, 0) + b"\0\0" + block, FIN if fin else 0)


def syn_reply(stream: int, block: bytes) -> bytes:
    """Return the frame that accepts a stream."""
    return control(Kind.SYN_REPLY, _NUMBER.pack(stream) + block)


def rst_stream(stream: int, status: int) -> bytes:
    """Return the frame that abandons a stream."""
    return control(Kind.RST_STREAM, _PAIR.pack(stream, status))


def settings(initial_window: int) -> bytes:
    """Return SETTINGS with the initial window of streams."""
    return control(Kind.SETTINGS, struct.pack(">III", 1, INITIAL_WINDOW_SIZE, initial_window))


def ping(number: int) -> bytes:
    """Return PING. Numbers are odd for clients, even for servers (section 2.6.5)."""
    return control(Kind.PING, _NUMBER.pack(number))


def goaway(last: int, status: int) -> bytes:
    """Return GOAWAY with the last stream of the peer that was accepted."""
    return control(Kind.GOAWAY, _PAIR.pack(last, status))


def window_update(stream: int, more: int) -> bytes:
    """Return WINDOW_UPDATE; of the connection if `stream` is 0."""
    return control(Kind.WINDOW_UPDATE, _PAIR.pack(stream, more))


# Bytes to frames.


Piece = tuple[int, memoryview, bool]
"""A part of a data frame's payload: the stream, the bytes, and whether they are the stream's last. It is a plain tuple,
because one is made for every few bytes that a user types."""


class Control(NamedTuple):
    """A control frame."""

    kind: int
    flags: int
    body: bytes


class FrameReader:
    """A splitter of a connection's bytes into frames."""

    def __init__(self) -> None:
        self._head = b""
        """The bytes received of a control frame, or of a frame's head."""
        self._payload: tuple[int, int, bool] | None = None
        """The data frame whose payload is arriving: its stream, bytes to come, whether it is the last."""

    def frames(self, view: memoryview) -> Iterator[Piece | Control]:
        """Yield the complete parts of the bytes; raises ProtocolError if a frame is malformed."""
        at, end = 0, len(view)
        while at < end:
            if self._payload is not None:
                stream, left, fin = self._payload
                size = min(left, end - at)
                left -= size
                self._payload = (stream, left, fin) if left else None
                yield stream, view[at : at + size], fin and not left
                at += size
                continue
            if not self._head and end - at >= _HEAD.size:
                frame = view[at : at + _HEAD.size]  # the frame begins and ends in these bytes
                at += _HEAD.size
            else:
                missing = self._missing()
                self._head += view[at : at + missing]
                frame = memoryview(self._head)
                at += min(missing, end - at)
                if len(frame) < _HEAD.size:
                    return
            first, second = _HEAD.unpack_from(frame)
            found = self._on_control_head(frame, first, second) if first >> 31 else self._on_data_head(first, second)
            if found is not None:
                yield found

    def _missing(self) -> int:
        """Return how many bytes the control frame, or the head of the next frame, still lacks."""
        if len(self._head) < _HEAD.size:
            return _HEAD.size - len(self._head)
        second: int = _HEAD.unpack_from(self._head)[1]
        return _HEAD.size + (second & MOST_DATA) - len(self._head)

    def _on_control_head(self, frame: memoryview, first: int, second: int) -> Control | None:
        """Handle the part of a control frame that has arrived."""
        length = second & MOST_DATA
        if (version := first >> 16 & 0x7FFF) != VERSION:
            raise ProtocolError(f"a control frame is of version {version}, not {VERSION}")
        if length > MOST_CONTROL:
            raise ProtocolError(f"a control frame has {length} bytes, more than {MOST_CONTROL}")
        if len(frame) < _HEAD.size + length:
            self._head = bytes(frame)
            return None
        self._head = b""
        return Control(first & 0xFFFF, second >> 24, bytes(frame[_HEAD.size :]))

    def _on_data_head(self, stream: int, second: int) -> Piece | None:
        self._head = b""
        if stream == 0:
            raise ProtocolError("a data frame is for stream 0")
        length, fin = second & MOST_DATA, bool(second >> 24 & FIN)
        if length:
            self._payload = (stream, length, fin)
            return None
        return (stream, memoryview(b""), True) if fin else None


def stream_id(body: bytes, least: int, what: str) -> int:
    """Return the stream with which a control frame begins; raises ProtocolError if its body has fewer than `least`
    bytes."""
    if len(body) < least:
        raise ProtocolError(f"{what} is too short")
    first: int = _NUMBER.unpack_from(body)[0]
    return first & LARGEST_ID


def pair(body: bytes, what: str) -> tuple[int, int]:
    """Return a stream and the number that follows it."""
    if len(body) != _PAIR.size:
        raise ProtocolError(f"a {what} has {len(body)} bytes")
    first, second = _PAIR.unpack(body)
    return first & LARGEST_ID, second


def number(body: bytes) -> int:
    """Return the number of a PING."""
    if len(body) != _NUMBER.size:
        raise ProtocolError(f"a PING has {len(body)} bytes")
    found: int = _NUMBER.unpack(body)[0]
    return found


def initial_windows(body: bytes) -> Iterator[int]:
    """Yield the initial windows that a SETTINGS frame sets; raises ProtocolError if it is malformed."""
    count = _NUMBER.unpack_from(body)[0] if len(body) >= _NUMBER.size else -1
    if count * _PAIR.size + _NUMBER.size != len(body):
        raise ProtocolError(f"a SETTINGS frame of {len(body)} bytes claims {count} entries")
    for key, value in _PAIR.iter_unpack(body[_NUMBER.size :]):
        if key & 0xFFFFFF != INITIAL_WINDOW_SIZE:
            continue
        if value > LARGEST_ID:
            raise ProtocolError(f"an initial window has {value} bytes")
        yield value
