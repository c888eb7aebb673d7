"""Header blocks, whole and hostile."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.stream.wires.spdy import ProtocolError
from kernel.stream.wires.spdy import headers as header_blocks
from kernel.stream.wires.spdy.headers import Compressor, Decompressor

NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=20)
VALUES = st.text(st.characters(min_codepoint=0, max_codepoint=127), max_size=50)


def deflated(*blocks: bytes) -> list[bytes]:
    stream = zlib.compressobj(zdict=header_blocks.DICTIONARY)
    return [stream.compress(block) + stream.flush(zlib.Z_SYNC_FLUSH) for block in blocks]


def test_the_dictionary_is_the_specifications() -> None:
    assert len(header_blocks.DICTIONARY) == 1423
    assert zlib.adler32(header_blocks.DICTIONARY) == 0xE3C6A7C2


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=10), max_size=5))
def test_blocks_come_back(blocks: list[dict[str, str]]) -> None:
    there, back = Compressor(), Decompressor()
    for headers in blocks:
        assert back.headers(there.block(headers)) == headers


def test_a_bomb_is_refused_at_once() -> None:
    bomb = deflated(struct.pack(">II", 1, 1 << 24) + b"a" * (16 << 20))[0]
    assert len(bomb) < 20000
    with pytest.raises(ProtocolError, match="more than 16384 bytes"):
        Decompressor().headers(bomb)


@pytest.mark.parametrize(
    ("plain", "why"),
    [
        (struct.pack(">I", 0xFFFFFFFF), "4294967295 headers"),
        (struct.pack(">II", 1, 0xFFFFFFFF), "longer than its block"),
        (struct.pack(">II", 1, 1) + b"a" + struct.pack(">I", 0xFFFFFFF0), "longer than its block"),
        (struct.pack(">I", 2) + b"\0\0\0\1a\0\0\0\1b", "ends within"),
        (struct.pack(">I", 2) + b"\0\0\0\1a\0\0\0\1b" * 2, "given twice"),
        (struct.pack(">I", 1) + b"\0\0\0\1A\0\0\0\1b", "lower case"),
        (struct.pack(">I", 1) + b"\0\0\0\0\0\0\0\1b", "empty"),
        (struct.pack(">I", 0) + b"x", "too many"),
        (b"", "ends within"),
    ],
)
def test_counts_and_lengths_are_held_against_what_is_there(plain: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        Decompressor().headers(deflated(plain)[0])


def test_not_zlib_at_all() -> None:
    with pytest.raises(ProtocolError, match="zlib"):
        Decompressor().headers(b"\xff" * 20)


@given(st.binary(max_size=300))
def test_any_bytes_are_headers_or_refused(data: bytes) -> None:
    for attempt in (lambda: header_blocks.parse(data), lambda: Decompressor().headers(data)):
        try:
            found = attempt()
        except ProtocolError:
            continue
        assert sum(len(name) + len(value) for name, value in found.items()) <= header_blocks.MOST_BYTES
