"""The part of the D-Bus wire format that calls to systemd need: strings, lists of process ids, properties. Pure.

Rules kept: messages are written little-endian, and read in the byte order that each names; a message that cannot be
read is Internal, never a guess. https://dbus.freedesktop.org/doc/dbus-specification.html#message-protocol
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kernel.errors import Internal

FIXED = 16
"""Bytes at the start of a message from which its length is known."""
CALL, REPLY, ERROR, SIGNAL = 1, 2, 3, 4
_LARGEST = 1 << 20
"""Bytes of a body, or of header fields, that are accepted."""
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_ALIGNMENT = {"s": 4, "o": 4, "u": 4, "g": 1}

Property = str | Sequence[int]
"""A string, or process ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that was received."""

    kind: int
    member: str
    error: str
    """The name of the error; empty if it is none."""
    reply_to: int
    """The serial of the call that it answers; 0 for none."""
    signature: str
    body: bytes
    order: Literal["<", ">"]

    def words(self) -> list[str]:
        """Return the strings, object paths and numbers of the body, up to the first argument of another kind."""
        found, at = [], 0
        for kind in self.signature:
            if kind not in _ALIGNMENT or kind == "g":
                break
            value, at = _read(self.body, at, kind, self.order)
            found.append(str(value))
        return found


class Body:
    """The arguments of a call, added one after the other."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self.signature = ""

    def text(self, *values: str) -> Body:
        """Add strings."""
        for value in values:
            _text(self._bytes, value)
            self.signature += "s"
        return self

    def properties(self, values: Mapping[str, Property]) -> Body:
        """Add properties, `a(sv)`: names and values."""
        opened = _open_array(self._bytes)
        for name, value in values.items():
            _pad(self._bytes, 8)
            _text(self._bytes, name)
            _variant(self._bytes, value)
        _close_array(self._bytes, opened)
        self.signature += "a(sv)"
        return self

    def no_units(self) -> Body:
        """Add no further units of StartTransientUnit: an empty `a(sa(sv))`."""
        _close_array(self._bytes, _open_array(self._bytes))
        self.signature += "a(sa(sv))"
        return self

    def done(self) -> bytes:
        """Return the encoded arguments."""
        return bytes(self._bytes)


def call(serial: int, destination: str, path: str, interface: str, member: str, body: Body) -> bytes:
    """Return a whole message that calls a method."""
    content = body.done()
    fields = bytearray(FIXED)
    for code, kind, value in (
        (_PATH, "o", path), (_INTERFACE, "s", interface), (_MEMBER, "s", member), (_DESTINATION, "s", destination),
        (_SIGNATURE, "g", body.signature),
    ):  # fmt: skip
        if not value:
            continue
        _pad(fields, 8)
        fields.append(code)
        _signature(fields, kind)
        if kind == "g":
            _signature(fields, value)
        else:
            _text(fields, value)
    length = len(fields) - FIXED
    _pad(fields, 8)
    struct.pack_into("<cBBBIII", fields, 0, b"l", CALL, 0, 1, len(content), serial, length)
    return bytes(fields) + content


def size(fixed: bytes) -> int:
    """Return the length of a whole message whose first FIXED bytes are given; Internal if it is too long."""
    body, _, fields = struct.unpack_from(f"{_order(fixed)}III", fixed, 4)
    if body > _LARGEST or fields > _LARGEST:
        raise Internal(f"a D-Bus message of {body + fields} bytes is too long")
    return FIXED + (int(fields) + 7) // 8 * 8 + int(body)


def parse(message: bytes) -> Message:
    """Read a whole message; Internal if it cannot be read."""
    order = _order(message)
    (length,) = struct.unpack_from(f"{order}I", message, 12)
    found: dict[int, str | int] = {}
    at, end = FIXED, FIXED + length
    try:
        while at < end:
            at = (at + 7) // 8 * 8
            code = message[at]
            kind, at = _read(message, at + 1, "g", order)
            found[code], at = _read(message, at, str(kind), order)
    except (IndexError, KeyError, UnicodeDecodeError, struct.error) as error:
        raise Internal(f"a D-Bus message cannot be read: {error!r}") from error
    reply_to = found.get(_REPLY_SERIAL, 0)
    return Message(
        kind=message[1],
        member=str(found.get(_MEMBER, "")),
        error=str(found.get(_ERROR_NAME, "")),
        reply_to=reply_to if isinstance(reply_to, int) else 0,
        signature=str(found.get(_SIGNATURE, "")),
        body=message[(end + 7) // 8 * 8 :],
        order=order,
    )


def _order(message: bytes) -> Literal["<", ">"]:
    return ">" if message[:1] == b"B" else "<"


def _read(data: bytes, at: int, kind: str, order: str) -> tuple[str | int, int]:
    alignment = _ALIGNMENT[kind]
    at = (at + alignment - 1) // alignment * alignment
    if kind == "g":
        length, at = data[at], at + 1
    else:
        (length,) = struct.unpack_from(f"{order}I", data, at)
        at += 4
        if kind == "u":
            return int(length), at
    end = at + length
    if end >= len(data):
        raise IndexError("a string goes beyond the end")
    return data[at:end].decode(), end + 1


def _pad(data: bytearray, alignment: int) -> None:
    data.extend(bytes(-len(data) % alignment))


def _text(data: bytearray, value: str) -> None:
    encoded = value.encode()
    _pad(data, 4)
    data += struct.pack("<I", len(encoded)) + encoded + b"\0"


def _signature(data: bytearray, value: str) -> None:
    data += bytes([len(value)]) + value.encode() + b"\0"


def _variant(data: bytearray, value: Property) -> None:
    if isinstance(value, str):
        _signature(data, "s")
        _text(data, value)
    else:
        _signature(data, "au")
        _pad(data, 4)
        data += struct.pack(f"<I{len(value)}I", 4 * len(value), *value)


def _open_array(data: bytearray) -> tuple[int, int]:
    """Leave room for an array's length. Return its place, and the place where the elements (aligned to 8) begin."""
    _pad(data, 4)
    place = len(data)
    data += bytes(4)
    _pad(data, 8)
    return place, len(data)


def _close_array(data: bytearray, opened: tuple[int, int]) -> None:
    place, start = opened
    struct.pack_into("<I", data, place, len(data) - start)
