"""A container's log file as conmon writes it for the CRI: `TIME STREAM TAG CONTENT`, one line for each.

The tag marks the content as a whole line (F) or a part of one (P). A line of another form is shown as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kernel.errors import NotFound, PermissionDenied

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a log."""

    time: bytes
    stream: bytes
    partial: bool
    content: bytes


def parse(line: bytes) -> Entry:
    """Parse one line of the file, without its newline."""
    parts = line.split(b" ", 3)
    if len(parts) < 3 or parts[1] not in (b"stdout", b"stderr"):
        return Entry(b"", b"stdout", False, line)
    # Tags are separated by colons; the first marks whole and partial lines.
    return Entry(parts[0], parts[1], parts[2].split(b":")[0] == b"P", parts[3] if len(parts) == 4 else b"")


def tail(entries: Sequence[Entry], lines: int) -> list[Entry]:
    """Return the entries of the last `lines` lines; a line that has not ended yet counts as one."""
    kept, seen = len(entries), 0
    for index in range(len(entries) - 1, -1, -1):
        if not entries[index].partial or index == len(entries) - 1:
            seen += 1
        if seen > lines:
            break
        kept = index
    return list(entries[kept:])


class Reader:
    """A reader of a log file that continues after its last read, and in the new file after a rotation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self) -> list[Entry]:
        """Return the entries since the last call; none if the file does not exist yet."""
        entries: list[Entry] = []
        if self._file is None:
            self._file = self._open()
        while self._file is not None:
            entries.extend(self._drain(self._file))
            if not self._rotated(self._file):
                break
            entries.extend(self._drain(self._file))  # the container wrote this between the two reads
            self._file.close()
            self._rest = b""
            self._file = self._open()
        return entries

    def _drain(self, file: BinaryIO) -> Iterable[Entry]:
        while chunk := file.read(_CHUNK):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            yield from map(parse, lines)

    def _open(self) -> BinaryIO | None:
        try:
            return self._path.open("rb")
        except FileNotFoundError:
            return None
        except NotADirectoryError as error:
            raise NotFound(f"log {self._path} does not exist") from error
        except PermissionError as error:
            raise PermissionDenied(f"log {self._path} cannot be read", hint="run crisp as root") from error

    def _rotated(self, file: BinaryIO) -> bool:
        try:
            now = os.stat(self._path)
        except OSError:
            return False
        then = os.fstat(file.fileno())
        return (now.st_dev, now.st_ino) != (then.st_dev, then.st_ino)


class Printer:
    """Writes entries to the two streams as the container wrote them."""

    def __init__(self, stdout: BinaryIO, stderr: BinaryIO, *, timestamps: bool = False) -> None:
        self._streams = {b"stdout": stdout, b"stderr": stderr}
        self._timestamps = timestamps
        self._within: dict[bytes, bool] = {b"stdout": False, b"stderr": False}

    def show(self, entries: Iterable[Entry]) -> None:
        """Write entries; a partial one has no end of line."""
        for entry in entries:
            stream = self._streams[entry.stream]
            if self._timestamps and entry.time and not self._within[entry.stream]:
                stream.write(entry.time + b" ")
            stream.write(entry.content if entry.partial else entry.content + b"\n")
            self._within[entry.stream] = entry.partial
        for stream in self._streams.values():
            stream.flush()
