"""Stop signals by name or number, as images and the CRI write them. Pure."""

from __future__ import annotations

import re
import signal

from kernel.errors import InvalidInput

_REAL_TIME = re.compile(r"(RTMIN|RTMAX)(?:([+-])([0-9]{1,2}))?", re.ASCII)
DEFAULT = "SIGTERM"


def choose(requested: str, image: str) -> str:
    """Return the full name of the request's stop signal, else of the image's if that is valid, else SIGTERM.

    InvalidInput if the request's is no signal.
    """
    if requested and requested != "RUNTIME_DEFAULT":
        if number(requested) is None:
            raise InvalidInput(f"stop_signal: {requested[:32]!r} is not a signal")
        return name(requested)
    return name(image) if image and number(image) is not None else DEFAULT


def name(text: str) -> str:
    """Return the full name of a signal: SIGTERM for `TERM`, `sigterm` and `15`."""
    if text.isascii() and text.isdigit():
        return signal.Signals(int(text)).name if int(text) in {*signal.Signals} else text
    return f"SIG{text.upper().removeprefix('SIG')}"


def number(text: str) -> int | None:
    """Return the number of a signal; None if there is no such signal."""
    plain = text.upper().removeprefix("SIG")
    if plain.isascii() and plain.isdigit():
        value = int(plain) if len(plain) < 3 else 0
        return value if 1 <= value <= signal.SIGRTMAX else None
    if match := _REAL_TIME.fullmatch(plain):
        base = signal.SIGRTMIN if match[1] == "RTMIN" else signal.SIGRTMAX
        value = base + int(f"{match[2] or '+'}{match[3] or 0}")
        return value if signal.SIGRTMIN <= value <= signal.SIGRTMAX else None
    found = signal.Signals.__members__.get(f"SIG{plain}")
    return int(found) if found is not None else None
