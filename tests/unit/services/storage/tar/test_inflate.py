"""Decompression into a descriptor, and what is said of blobs that are none."""

from __future__ import annotations

import gzip
import io
import os
import tempfile

import pytest
import zstandard

from services.storage.tar.inflate import GZIP, ZSTD, inflate

PLAIN = os.urandom(1000) * 3000


def run(packed: bytes, form: str) -> tuple[bytes, str]:
    with tempfile.TemporaryFile() as output:
        wrong = inflate(io.BytesIO(packed), output.fileno(), form)
        output.seek(0)
        return output.read(), wrong


@pytest.mark.parametrize(
    ("packed", "form"),
    [
        (gzip.compress(PLAIN, 1), GZIP),
        (gzip.compress(PLAIN[:999], 1) + gzip.compress(PLAIN[999:], 1), GZIP),
        (gzip.compress(PLAIN, 1) + bytes(512), GZIP),
        (zstandard.compress(PLAIN), ZSTD),
        (zstandard.compress(PLAIN[:999]) + zstandard.compress(PLAIN[999:]), ZSTD),
    ],
)
def test_what_was_packed_comes_out(packed: bytes, form: str) -> None:
    assert run(packed, form) == (PLAIN, "")


@pytest.mark.parametrize(
    ("packed", "form"),
    [
        (b"plain text", GZIP),
        (b"plain text", ZSTD),
        (gzip.compress(PLAIN, 1)[:-9], GZIP),
        (gzip.compress(PLAIN, 1)[:-8] + bytes(8), GZIP),
        (gzip.compress(PLAIN, 1) + b"trailing", GZIP),
        (zstandard.ZstdCompressor(write_checksum=True).compress(PLAIN)[:-1] + b"x", ZSTD),
    ],
)
def test_what_is_wrong_is_said(packed: bytes, form: str) -> None:
    assert run(packed, form)[1].startswith(f"not {form}: ")


def test_a_reader_that_left_is_no_fault() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        assert inflate(io.BytesIO(gzip.compress(PLAIN, 1)), write, GZIP) == ""
    finally:
        os.close(write)
