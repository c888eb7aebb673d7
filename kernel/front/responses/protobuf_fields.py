"""The one part of protobuf's wire format that is written by hand: a message as a field of another. Pure.

Messages that were serialised once are put together to lists, and into each other, without being parsed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

_LENGTH_DELIMITED = 2
_CHUNK = 500
"""Objects in one message of a stream: far below the message limit, even with large annotations."""


def field(number: int, message: bytes) -> bytes:
    """A serialised message as a field; numbers up to 15."""
    return bytes((number << 3 | _LENGTH_DELIMITED,)) + varint(len(message)) + message


def varint(value: int) -> bytes:
    """A number that is not negative."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def parts(items: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the fields of a list message as messages of a stream, of `_CHUNK` objects each.

    All items are read at the first step: the records may change while the caller takes the parts.
    """
    rest = iter(list(items))
    while part := list(islice(rest, _CHUNK)):
        yield b"".join(part)
