"""The meaning of a tar entry in an overlay layer, and whether it is safe. Pure.

Image layers express "deleted below" by names (image-spec, layer.md, "Whiteouts"): `.wh.NAME` hides NAME of the layers
below, `.wh..wh..opq` hides all that they have in that directory. overlayfs expresses the same by a character device
0:0 and the attribute `trusted.overlay.opaque`. A tar that brings the overlay's own forms is refused or loses them, as
nothing but a whiteout may hide another layer's files. Every refusal is InvalidInput.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from kernel.errors import InvalidInput
from kernel.formats.tar_header import Kind
from services.storage.tar.reader import Entry

MAX_PATH = 4096
MAX_NAME = 255
MAX_DEPTH = 256
MAX_MAJOR = (1 << 12) - 1
MAX_MINOR = (1 << 20) - 1

_PREFIX = b".wh."
_META = b".wh..wh."
_OPAQUE = b".wh..wh..opq"


class Action(enum.Enum):
    """The action for an entry."""

    MAKE = "make"
    HIDE = "hide"
    """Hide the name in the layers below."""
    OPAQUE = "opaque"
    """Hide all that the layers below have in the parent."""
    SKIP = "skip"
    """Make nothing: it is something of aufs' own."""


class Operation(NamedTuple):
    """The action for an entry and its place in the layer: the parent's path, relative and normal, and a name in it."""

    action: Action
    parent: bytes
    name: bytes
    """Empty for the layer's root itself."""

    @property
    def path(self) -> bytes:
        """Parent and name together."""
        return self.parent + b"/" + self.name if self.parent else self.name


def locate(path: bytes) -> tuple[bytes, bytes]:
    """Return parent and name of a path, relative to the layer's root; a path that climbs is refused."""
    if b"\0" in path or len(path) > MAX_PATH:
        raise InvalidInput(f"tar entry {path[:100]!r} has a name that no file can have")
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise InvalidInput(f"tar entry {path!r} would leave the layer")
    if len(parts) > MAX_DEPTH or any(len(part) > MAX_NAME for part in parts):
        raise InvalidInput(f"tar entry {path[:100]!r} is too deep or has too long a name")
    return (b"/".join(parts[:-1]), parts[-1]) if parts else (b"", b"")


def decide(entry: Entry) -> Operation:
    """Return what `entry` means, or refuse it."""
    parent, name = locate(entry.path)
    if b".wh." in entry.path and (hidden := _whiteout(entry, parent, name)):
        return hidden
    if not name:
        _check_root(entry)
    if entry.kind in (Kind.CHARACTER, Kind.BLOCK):
        _check_device(entry)
    if entry.kind is Kind.SYMLINK and not 0 < len(entry.link) < MAX_PATH:
        raise InvalidInput(f"tar entry {entry.path!r} is a symbolic link with a target of {len(entry.link)} bytes")
    return Operation(Action.MAKE, parent, name)


def _whiteout(entry: Entry, parent: bytes, name: bytes) -> Operation | None:
    for part in parent.split(b"/"):
        if part.startswith(_META):
            return Operation(Action.SKIP, parent, name)  # the insides of aufs, such as .wh..wh.plnk
        if part.startswith(_PREFIX):
            raise InvalidInput(f"tar entry {entry.path!r} is below a whiteout")
    if not name.startswith(_PREFIX):
        return None
    if name == _OPAQUE:
        return Operation(Action.OPAQUE, parent, name)
    if name.startswith(_META):
        return Operation(Action.SKIP, parent, name)
    hidden = name.removeprefix(_PREFIX)
    if hidden in (b"", b".", b".."):
        raise InvalidInput(f"tar entry {entry.path!r} is a whiteout of no name")
    if entry.kind not in (Kind.FILE, Kind.HARD_LINK):  # aufs links its whiteouts to each other
        raise InvalidInput(f"tar entry {entry.path!r} is a whiteout that is a {entry.kind.value}")
    return Operation(Action.HIDE, parent, hidden)


def _check_root(entry: Entry) -> None:
    if entry.kind is not Kind.DIRECTORY:
        raise InvalidInput(f"tar entry {entry.path!r} makes the layer's root a {entry.kind.value}")
    if not entry.mode:
        raise InvalidInput(f"tar entry {entry.path!r} makes the layer's root inaccessible")


def _check_device(entry: Entry) -> None:
    if not (0 <= entry.major <= MAX_MAJOR and 0 <= entry.minor <= MAX_MINOR):
        raise InvalidInput(f"tar entry {entry.path!r} has the impossible device {entry.major}:{entry.minor}")
    if entry.kind is Kind.CHARACTER and not entry.major and not entry.minor:
        raise InvalidInput(f"tar entry {entry.path!r} is an overlay whiteout (character device 0:0), not an image's")


def keeps_xattr(name: bytes, value: bytes, path: bytes) -> bool:
    """Return whether an extended attribute of a tar is set. File capabilities and `user.*` are, the rest is left out.

    Labels, integrity hashes and access lists belong to the host; `trusted.*` and `user.overlay.*` steer overlays.
    """
    if name == b"security.capability":
        _check_capability(value, path)
        return True
    return name.startswith(b"user.") and not name.startswith(b"user.overlay.") and len(name) <= MAX_NAME


def _check_capability(value: bytes, path: bytes) -> None:
    """Refuse a value that is no vfs_cap_data of linux/capability.h, or is for another user namespace."""
    revision = value[3] if len(value) >= 4 else 0
    sizes = {1: 12, 2: 20, 3: 24}
    if len(value) != sizes.get(revision) or (revision == 3 and any(value[20:])):
        raise InvalidInput(f"tar entry {path!r} has file capabilities that are malformed or for another namespace")
