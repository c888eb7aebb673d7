"""The contents of a layer's folder, and the two records in it.

    <layers>/<hex of the diff id>/diff          the layer's files
    <layers>/<hex of the diff id>/layer.json    the record: a layer without one is not whole, and not listed
    <layers>/<hex of the diff id>/notes.json    facts that matter when layers are put together, if there are any
    <layers>/<hex of the diff id>/skeleton      the tar without the files' contents, if it can be made again
    <layers>/<hex of the diff id>/damaged.json  the record, renamed, of a layer that failed its check
    <layers>/.tmp-RANDOM                        a layer that is being made or deleted
    <layers>/.old-HEX-RANDOM                    a damaged layer that was made again; a container may still read it

Pure: declarations.
"""

from __future__ import annotations

import msgspec

TEMPORARY = ".tmp-"
REPLACED = ".old-"
RECORD = "layer.json"
NOTES = "notes.json"
SKELETON = "skeleton"
DAMAGED = "damaged.json"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a layer that every call needs."""

    bytes: int
    inodes: int
    root: bool
    """Whether the tar has an entry for the root directory, with its mode and owner."""
    skeleton: bool = False
    """Whether its tar can be made again out of its files."""
    notes: bool = False
    """Whether it has notes."""
    boot: str = ""
    """The boot of the host during which it was made."""


class Notes(msgspec.Struct, frozen=True, kw_only=True):
    """Directories of a layer that matter when layers are put together. A character of a path is a byte."""

    implied: tuple[str, ...] = ()
    """Directories that only entries below them made: the layers below decide how they look."""
    hiding: tuple[str, ...] = ()
    """Directories with whiteouts in them."""
    opaque: tuple[str, ...] = ()
    """Directories that hide what is below."""
