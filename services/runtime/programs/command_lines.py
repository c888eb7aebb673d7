"""Finds processes by their command lines in /proc, for programs that an earlier worker left running."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def pids_with(option: str, value: Path) -> list[int]:
    """Return the processes, this one not included, that have `option` and then `value` among their arguments."""
    wanted, found = f"{option}\0".encode() + os.fsencode(value) + b"\0", []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):  # ended while the list was read
                if wanted in Path(entry.path, "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found
