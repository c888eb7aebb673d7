"""The keys that leave a session, in one piece or two."""

from __future__ import annotations

import pytest

from kernel.cli.terminal import DetachKeys


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
