"""Counts and notes that are taken while a layer is made, for the report of the unpack. Pure.

Runs in the child that makes files. Marks on directories are set by the worker at the end, and metadata of directories
that a tar only implies is decided when layers are put together: until then their paths are kept here.
"""

from __future__ import annotations

from typing import NamedTuple

from kernel.errors import ResourceExhausted

MOST_NOTED = 8 << 20
"""Most bytes of the paths of directories that are implied, or have whiteouts."""


class Report(NamedTuple):
    """The layer that was made. `opaque` lists directories to mark, which takes a capability that the child lacks; a
    character of such a path is a byte."""

    bytes: int
    inodes: int
    root: bool
    """Whether the tar has an entry for the layer's root, with its mode and owner."""
    opaque: list[str]
    implied: list[str]
    """Directories that only entries below them made, spelled the same way: the tar has no mode and owner for them."""
    hiding: list[str]
    """Directories with whiteouts in them."""
    replaced: bool
    """Whether an entry took an earlier one's place, so that the files are not all that the tar had."""


class Tally:
    """The counts and notes of one layer. Paths are relative to its root."""

    def __init__(self) -> None:
        self.bytes = 0
        self.inodes = 1
        self.has_root = False
        """Whether the tar has an entry for the root."""
        self.replaced = False
        """Whether something was removed again: then bytes and inodes have to be counted again."""
        self.opaque: set[bytes] = set()
        self.hidden: set[bytes] = set()
        """Paths that a whiteout of this layer hides."""
        self._implied: set[bytes] = set()
        self._hiding: set[bytes] = set()
        self._noted_bytes = 0

    def add(self, size: int = 0) -> None:
        """Count one more inode, and the bytes that it takes."""
        self.inodes += 1
        self.bytes += size

    def hide(self, path: bytes) -> None:
        """Note a whiteout, and the directory that it is in."""
        self.hidden.add(path)
        self._note(self._hiding, path.rpartition(b"/")[0])

    def imply(self, path: bytes) -> None:
        """Note a directory that was made for an entry below it."""
        self._note(self._implied, path)

    def has_entry(self, path: bytes) -> None:
        """Note that a directory has an entry of its own, so it is not only implied."""
        self._implied.discard(path)

    def forget(self, path: bytes) -> None:
        """Drop the notes about a directory that is removed, and about all below it."""
        below = path + b"/"
        for known in (self.opaque, self.hidden, self._implied, self._hiding):
            known.difference_update([other for other in known if other == path or other.startswith(below)])

    def report(self) -> Report:
        """Return the report on the layer that was made."""
        return Report(
            self.bytes, self.inodes, self.has_root, _spell(self.opaque), _spell(self._implied),
            _spell(self._hiding - self.opaque), self.replaced,
        )  # fmt: skip

    def _note(self, known: set[bytes], path: bytes) -> None:
        if path not in known:
            self._noted_bytes += len(path)
            if self._noted_bytes > MOST_NOTED:
                raise ResourceExhausted(
                    f"layer has too many folders that are implied or have whiteouts, {path!r} is one"
                )
            known.add(path)


def _spell(paths: set[bytes]) -> list[str]:
    return [path.decode("latin-1") for path in sorted(paths)]
