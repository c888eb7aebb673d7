"""The terminal that crisp is used from: raw while a session has it, its size, and the keys that leave it."""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

DETACH = b"\x10\x11"
"""Ctrl-P Ctrl-Q."""


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """Every key goes through as it is, until the body ends."""
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSADRAIN)  # what was typed already counts
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def size(fd: int) -> tuple[int, int]:
    """Width and height."""
    return tuple(os.get_terminal_size(fd))  # type: ignore[return-value]  # a tuple of two


class DetachKeys:
    """Looks for the keys that leave a session in what is typed. Pure."""

    def __init__(self) -> None:
        self._half = False

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What goes through, and whether the keys were typed: then only what came before."""
        text = (DETACH[:1] if self._half else b"") + typed
        self._half = False
        before, found, _ = text.partition(DETACH)
        if found:
            return before, True
        if text.endswith(DETACH[:1]):
            self._half = True
            text = text[:-1]
        return text, False
