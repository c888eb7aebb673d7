"""The header of a message: a flat map of MessagePack, written and read by the `msgpack` package. Pure.

A header is the first thing that a process reads of a message from another one, so its limits are hard and narrow: a
header that is too long is refused before a byte of it is parsed, and a header can hold neither an array nor an
extension type. Its first byte counts the fields: if the decoded map has fewer, it had a field twice. Any language's
MessagePack can read and write a header.

This module imports msgpack's C extension by its own name, so a process without it does not start: otherwise msgpack
would silently use a version in pure Python, which is ten times as slow.
"""

from __future__ import annotations

from msgpack._cmsgpack import Packer, unpackb

from kernel.errors import InvalidInput

MAX_HEADER = 256
"""Bytes of a header frame; the longest that crisp sends has 201."""
MAX_FIELDS = 8
"""Fields of a header; a request has five."""
MAX_TEXT = 64
"""Bytes of UTF-8 in a name or value; a W3C traceparent has 55."""
MAX_BYTES = 16
"""Bytes of a binary value: the id of a call."""

_FIXMAP, _FIXMAP_END = b"\x80", b"\x90"
"""First bytes of MessagePack's short maps: 0x80 and the number of fields."""

_packer = Packer(use_bin_type=True, strict_types=True)


def pack_header(fields: dict[str, object]) -> bytes:
    """Encode a header."""
    packed: bytes = _packer.pack(fields)
    return packed


def unpack_header(frame: bytes) -> dict[str, object]:
    """Decode a header; raises InvalidInput if it is not one map within the limits, or has a field twice.

    The caller must check the names and types of the fields, and refuse nested maps and arrays. Their depth is at most
    half of the header's length in bytes, and msgpack's parser does not recurse.
    """
    if len(frame) > MAX_HEADER:
        raise InvalidInput(f"header has {len(frame)} bytes, more than {MAX_HEADER}")
    if not _FIXMAP <= frame[:1] < _FIXMAP_END:
        raise InvalidInput("header does not begin with a map of at most 15 fields")
    try:
        fields: dict[str, object] = unpackb(
            frame,
            raw=False,
            strict_map_key=True,
            unicode_errors="strict",
            ext_hook=_extension,
            max_map_len=MAX_FIELDS,
            max_str_len=MAX_TEXT,
            max_bin_len=MAX_BYTES,
            max_array_len=0,
            max_ext_len=0,
        )
    except ValueError as error:  # the base of all that unpackb raises for bytes, UnicodeDecodeError included
        raise InvalidInput(f"header is not read: {str(error) or type(error).__name__}") from error
    if len(fields) != frame[0] - _FIXMAP[0]:
        raise InvalidInput("header has a field twice")
    return fields


def _extension(code: int, data: bytes) -> object:
    """Refuse an extension type without data, the only one that `max_ext_len` lets through."""
    raise ValueError(f"extension type {code}")
