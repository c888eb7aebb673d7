"""The child that reads an archive of a checkpoint: it unpacks its parts below `/`, or returns its two descriptions.

Started by the storage worker as `python -I -m services.storage.checkpoints.unarchive all|descriptions MAX_BYTES FILTER`
with the archive on standard input and the folder to fill as working directory, which becomes its root. The archive may
come from an attacker, so it has plain files by known names or is refused: no link, no device, no folder but CRIU's,
nothing twice. An entry that has no meaning here (another engine's log, network status, volumes) is passed over and
never made. Answer on standard output, as JSON: the descriptions in base 64, or the kind and message of an error.
"""

from __future__ import annotations

import base64
import enum
import os
import sys

from kernel.errors import InvalidInput, ResourceExhausted
from kernel.formats.tar_header import Kind
from services.storage.checkpoints.parts import (
    CONFIG,
    DELETED,
    IMAGES,
    INVENTORY,
    MOST_JSON,
    ROOTFS_DIFF,
    SPEC,
    is_image_name,
)
from services.storage.confined import answer, confine
from services.storage.tar.pipe_source import Stream
from services.storage.tar.reader import Entry, entries
from services.storage.tar.whiteout import locate

ALL, DESCRIPTIONS = "all", "descriptions"
"""The two modes: everything to disk, or the descriptions to the answer."""
_MOST_ENTRIES = 100_000


class Part(enum.Enum):
    """The part of a checkpoint that an entry is."""

    NONE = "none"
    """It has no meaning here."""
    FOLDER = "folder"
    """The folder of CRIU's files."""
    IMAGE = "image"
    """A file in that folder."""
    FILE = "file"
    """A description, or a list of changes, beside that folder."""


def part_of(entry: Entry) -> Part:
    """Return which part an entry is; InvalidInput for one that no checkpoint has. Pure."""
    parent, name = locate(entry.path)
    if entry.kind is Kind.DIRECTORY:
        if parent == IMAGES or parent.startswith(IMAGES + b"/"):
            raise InvalidInput(f"entry {entry.path!r} is a folder among the files of CRIU")
        return Part.FOLDER if (parent, name) == (b"", IMAGES) else Part.NONE
    if entry.kind is not Kind.FILE:
        raise InvalidInput(f"entry {entry.path!r} is a {entry.kind.value}; a checkpoint has plain files alone")
    if parent == IMAGES:
        if not is_image_name(name):
            raise InvalidInput(f"entry {entry.path!r} has a name that no file of CRIU's has")
        return Part.IMAGE
    if parent or name not in (CONFIG, SPEC, ROOTFS_DIFF, DELETED):
        return Part.NONE
    if name != ROOTFS_DIFF and entry.size > MOST_JSON:
        raise InvalidInput(f"entry {entry.path!r} has {entry.size} bytes, more than {MOST_JSON}")
    return Part.FILE


class Unpacking:
    """One archive being read into the open directory `root`; if that is None, nothing is written."""

    def __init__(self, root: int | None, max_bytes: int) -> None:
        self._root = root
        self._left = max_bytes
        self._seen: set[tuple[bytes, bytes]] = set()
        self.descriptions: dict[bytes, bytes] = {}

    def run(self, source: Stream) -> None:
        """Read the archive to its end. InvalidInput if it lacks a part that every checkpoint has."""
        for count, entry in enumerate(entries(source)):
            if count >= _MOST_ENTRIES:
                raise ResourceExhausted(f"it has more than {_MOST_ENTRIES} entries")
            part = part_of(entry)
            if part in (Part.IMAGE, Part.FILE):
                self._take(entry, source)
        source.drain()
        for place in ((b"", CONFIG), (b"", SPEC), (IMAGES, INVENTORY)):
            if place not in self._seen:
                raise InvalidInput(f"it has no {b'/'.join(filter(None, place)).decode()}: it is not of a checkpoint")

    def _take(self, entry: Entry, source: Stream) -> None:
        parent, name = place = locate(entry.path)
        if place in self._seen:
            raise InvalidInput(f"entry {entry.path!r} comes twice")
        self._seen.add(place)
        self._left -= entry.size
        if self._left < 0:
            raise ResourceExhausted(
                "it takes more bytes than a layer may", hint="storage.max_layer_bytes sets the limit"
            )
        if self._root is None:
            if name in (CONFIG, SPEC) and not parent:
                self.descriptions[name] = source.take(entry.size)
        else:
            self._write(self._root, parent, name, entry, source)

    def _write(self, root: int, parent: bytes, name: bytes, entry: Entry, source: Stream) -> None:
        folder = os.open(parent or b".", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(name, flags, 0o600, dir_fd=folder)
        finally:
            os.close(folder)
        try:
            source.copy_to(fd, entry.size)
        finally:
            os.close(fd)


def main() -> None:
    """Run the child from its start to its end."""
    mode, max_bytes, seccomp = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
    root = None
    os.umask(0o077)
    confine.enter(empty=mode == DESCRIPTIONS)
    if mode == ALL:
        root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.mkdir(IMAGES, 0o700, dir_fd=root)
    confine.drop(0, seccomp)
    unpacking = Unpacking(root, max_bytes)

    def read() -> dict[str, object]:
        unpacking.run(Stream(0))
        return {name.decode(): base64.b64encode(data).decode() for name, data in unpacking.descriptions.items()}

    answer.finish(1, read, "checkpoint's folder")


if __name__ == "__main__":
    main()
