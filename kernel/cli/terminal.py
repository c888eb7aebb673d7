"""The terminal that crisp runs on: raw during a session, its size, single keys, and the keys that leave a session."""

from __future__ import annotations

import os
import select
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

DETACH = b"\x10\x11"
"""Ctrl-P Ctrl-Q leaves a session."""


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """Pass every key on unchanged, until the body ends."""
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSADRAIN)  # keys typed before are kept
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def single_keys(fd: int) -> Iterator[Keys]:
    """Yield the typed keys, each at once and without echo, until the body ends. Ctrl-C still interrupts."""
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd, termios.TCSADRAIN)
    try:
        yield Keys(fd)
    finally:
        with suppress(termios.error):  # the terminal was hung up: there is nothing to restore
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


class Keys:
    """Keys typed at a terminal: characters, and the names of arrows."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, seconds: float) -> list[str] | None:
        """Wait for keys and return them; none if that time has passed, None if the terminal is gone."""
        if not select.select([self._fd], [], [], max(seconds, 0))[0]:
            return []
        try:
            typed = os.read(self._fd, 1024)
        except OSError:  # EIO: the terminal was hung up
            return None
        return split_keys(typed) if typed else None


_ARROWS = {b"A": "up", b"B": "down", b"C": "right", b"D": "left"}


def split_keys(typed: bytes) -> list[str]:
    """Return the keys in typed bytes: arrows by name, other printable characters. Pure.

    A terminal sends an arrow as ESC, `[` or `O`, and a letter (ECMA-48, CUU to CUB) in one piece.
    """
    keys: list[str] = []
    rest = typed
    while rest:
        if rest[:2] in (b"\x1b[", b"\x1bO") and len(rest) > 2:
            if arrow := _ARROWS.get(rest[2:3]):
                keys.append(arrow)
            rest = rest[3:]
            continue
        character = chr(rest[0])
        if character.isascii() and character.isprintable():
            keys.append(character)
        rest = rest[1:]
    return keys


def size(fd: int) -> tuple[int, int]:
    """Return width and height."""
    return tuple(os.get_terminal_size(fd))  # type: ignore[return-value]  # a tuple of two


class DetachKeys:
    """A finder of the keys that end a session, in typed bytes. Pure."""

    def __init__(self) -> None:
        self._half = False

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """Return the bytes to pass on, and whether the keys were typed; if they were, only the bytes before them."""
        text = (DETACH[:1] if self._half else b"") + typed
        self._half = False
        before, found, _ = text.partition(DETACH)
        if found:
            return before, True
        if text.endswith(DETACH[:1]):
            self._half = True
            text = text[:-1]
        return text, False
