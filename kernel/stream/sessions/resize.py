"""Sizes of a terminal as clients send them: JSON objects, one after the other. Pure."""

from __future__ import annotations

import json
import re

_MOST = 4096
"""The most bytes of an unfinished object that are kept."""
_OBJECT = re.compile(rb"[^{}]*(\{[^{}]*\})")
_HIGHEST = 65535


class Sizes:
    """A collector of objects. Only the last of several sizes counts."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: memoryview) -> tuple[int, int] | None:
        """Return width and height of the last whole object that is a size; None if there is none."""
        found: tuple[int, int] | None = None
        text, at = self._rest + data, 0
        while match := _OBJECT.match(text, at):
            at = match.end()
            found = _size(match.group(1)) or found
        self._rest = text[at:][-_MOST:]
        return found


def _size(text: bytes) -> tuple[int, int] | None:
    try:
        given = json.loads(text)
    except ValueError:
        return None
    sizes = tuple(given.get(name) for name in ("Width", "Height"))
    width, height = sizes
    if type(width) is not int or type(height) is not int or not all(0 <= one <= _HIGHEST for one in (width, height)):
        return None
    return width, height
