"""The keys that leave a session, in one piece or two; single keys."""

from __future__ import annotations

import os
import pty
import termios

import pytest

from kernel.cli.terminal import DetachKeys, single_keys, split_keys


@pytest.mark.parametrize(
    ("typed", "through", "left"),
    [
        ([b"ls\n"], b"ls\n", False),
        ([b"\x10\x11"], b"", True),
        ([b"before\x10\x11after"], b"before", True),
        ([b"a\x10", b"\x11"], b"a", True),
        ([b"a\x10", b"b"], b"a\x10b", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x10", b"\x10", b"\x11"], b"\x10", True),
        ([b"\x11\x10", b""], b"\x11", False),
    ],
)
def test_the_keys_that_leave(typed: list[bytes], through: bytes, left: bool) -> None:
    keys = DetachKeys()
    found = [keys.feed(piece) for piece in typed]
    assert b"".join(text for text, _ in found) == through
    assert found[-1][1] is left


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (b"cq", ["c", "q"]),
        (b"\x1b[A\x1b[B\x1bOC\x1b[Dm", ["up", "down", "right", "left", "m"]),
        (b"\x1b[5x", ["x"]),
        (b"\x1b", []),
        (b"\x00\r\n\xc3\xa9", []),
    ],
)
def test_single_keys_by_name(typed: bytes, keys: list[str]) -> None:
    assert split_keys(typed) == keys


def test_keys_are_read_at_once_and_the_terminal_is_restored() -> None:
    ours, theirs = pty.openpty()
    try:
        before = termios.tcgetattr(theirs)
        with single_keys(theirs) as keys:
            assert keys.read(0) == []
            os.write(ours, b"m")
            assert keys.read(30) == ["m"]
        assert termios.tcgetattr(theirs) == before
        with single_keys(theirs) as keys:
            os.close(ours)
            ours = -1
            assert keys.read(30) is None
    finally:
        os.close(theirs)
        if ours != -1:
            os.close(ours)
