"""Header blocks (section 2.6.10): names and values with their lengths, in one zlib stream for each direction. Pure.

Every length and count is compared with the bytes that are there before anything is made of it. The decompressed block
is bounded, so a block of a few bytes that would become gigabytes is refused after the first 16 KiB of them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from kernel.stream.wires.spdy.errors import ProtocolError

MOST_BYTES = 16 << 10
"""The longest decompressed block: the streams of exec and port-forward have two or three short headers."""
MOST_HEADERS = 64
_NUMBER = struct.Struct(">I")
_WINDOW_BITS = 11
_MEMORY = 1
"""zlib's least memory is enough for a connection, because its blocks have few bytes."""

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
)
_MORE_WORDS = ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_CODES = (
    "100 101 201 202 205 206 300 302 303 304 305 306 307 402 405 406 407 408 409 410 411 412 413 414 415 416 417 502 "
    "504 505"
).replace(" ", "")
_REASONS = (
    "203 Non-Authoritative Information", "204 No Content", "301 Moved Permanently", "400 Bad Request",
    "401 Unauthorized", "403 Forbidden", "404 Not Found", "500 Internal Server Error", "501 Not Implemented",
    "503 Service Unavailable",
)  # fmt: skip
_REST = (
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,public" "privatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)  # fmt: skip


def _dictionary() -> bytes:
    """Return the dictionary of section 2.6.10.1: words as they stand in a block, then text without lengths."""
    words = b"".join(_NUMBER.pack(len(word)) + word.encode() for word in (*_WORDS.split(), *_MORE_WORDS))
    return words + (_CODES + "".join(_REASONS) + _REST).encode()


DICTIONARY = _dictionary()


class Compressor:
    """A maker of the header blocks that this side sends."""

    def __init__(self) -> None:
        self._stream = zlib.compressobj(1, zlib.DEFLATED, _WINDOW_BITS, _MEMORY, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)

    def block(self, headers: Mapping[str, str]) -> bytes:
        """Return a header block; names become lower case."""
        parts = [_NUMBER.pack(len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode(), value.encode()):
                parts += (_NUMBER.pack(len(text)), text)
        return self._stream.compress(b"".join(parts)) + self._stream.flush(zlib.Z_SYNC_FLUSH)


class Decompressor:
    """A reader of the header blocks that the peer sends. After an error its state, and so the connection, is lost."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(zdict=DICTIONARY)

    def headers(self, block: bytes) -> dict[str, str]:
        """Return the headers of a block; raises ProtocolError if it is malformed or too large."""
        try:
            plain = self._stream.decompress(block, MOST_BYTES + 1)
        except zlib.error as error:
            raise ProtocolError(f"a header block is not in zlib's format: {error}") from error
        if len(plain) > MOST_BYTES or self._stream.unconsumed_tail:
            raise ProtocolError(f"a header block has more than {MOST_BYTES} bytes")
        return parse(plain)


def parse(plain: bytes) -> dict[str, str]:
    """Return the headers of a decompressed block."""
    count, at = _number(plain, 0)
    if count > MOST_HEADERS:
        raise ProtocolError(f"a header block has {count} headers, at most {MOST_HEADERS} are taken")
    found: dict[str, str] = {}
    for _ in range(count):
        name, at = _text(plain, at)
        value, at = _text(plain, at)
        if not name or name != name.lower():
            raise ProtocolError(f"header name {name[:80]!a} is empty or not in lower case")
        if name in found:
            raise ProtocolError(f"header {name[:80]!a} is given twice")
        found[name] = value
    if at != len(plain):
        raise ProtocolError(f"a header block has {len(plain) - at} bytes too many")
    return found


def _number(plain: bytes, at: int) -> tuple[int, int]:
    if len(plain) - at < _NUMBER.size:
        raise ProtocolError("a header block ends within a length")
    return _NUMBER.unpack_from(plain, at)[0], at + _NUMBER.size


def _text(plain: bytes, at: int) -> tuple[str, int]:
    size, at = _number(plain, at)
    if size > len(plain) - at:
        raise ProtocolError(f"a header of {size} bytes is longer than its block")
    return plain[at : at + size].decode("latin-1"), at + size
