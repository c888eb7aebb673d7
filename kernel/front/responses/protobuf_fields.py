"""The one part of protobuf's wire format that is written by hand: a message as a field of another. Pure.

Messages that were serialised once are put together to lists, and into each other, without being parsed again.
"""

from __future__ import annotations

_LENGTH_DELIMITED = 2


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
