"""Serialised messages as fields of others: the one part of protobuf's wire format that is written by hand. Pure.

So messages that were serialised once become parts of lists, and of each other, without being parsed again. The
format is that of https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

_LENGTH_DELIMITED = 2
_CHUNK = 500
"""Items in one message of a stream: far below gRPC's limit of a message, even with large annotations."""


def field(number: int, message: bytes) -> bytes:
    """Return a serialised message as the field `number` (1 to 15) of another message."""
    return bytes((number << 3 | _LENGTH_DELIMITED,)) + varint(len(message)) + message


def varint(value: int) -> bytes:
    """Return a number as a varint; it must not be negative."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def parts(items: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the fields of a list message as messages of a stream, of `_CHUNK` items each.

    All items are read at the first step: the records may change while the caller takes the parts.
    """
    rest = iter(list(items))
    while part := list(islice(rest, _CHUNK)):
        yield b"".join(part)
