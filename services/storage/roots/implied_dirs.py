"""Folders that a layer only implies: it has entries below them and none of their own.

Unpacked by itself such a layer has them as root's with mode 0755, and in an overlay the topmost layer's folder is the
one that shows. Unpacked over its parents, as a tar would be, it would have changed nothing of them. So what the merged
folder looks like is taken from the topmost layer that really says it. A folder in which a layer hides what is not there
is looked after as well. A plan is made once for the layers of an image.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kernel.host import syscalls
from services.storage.roots.merged_view import COVERED, NOTHING, Layers

_PLAIN = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class Look(NamedTuple):
    """A folder that is to look as a layer has it."""

    path: bytes
    layer: int


def plan(
    layers: Layers, implied: Sequence[frozenset[bytes]], hiding: Sequence[frozenset[bytes]] = ()
) -> tuple[Look, ...]:
    """The folders to mend, parents first. Implied ones, and those with whiteouts, are by layer, the lowest first."""
    looks = {look.path: look for look in _plan_alone(layers, hiding)}
    looks |= {look.path: look for look in _plan_implied(layers, implied)}
    return tuple(looks[path] for path in sorted(looks))


def _plan_alone(layers: Layers, hiding: Sequence[frozenset[bytes]]) -> Iterator[Look]:
    """Folders with whiteouts that are merged with no other: the kernel lists those whiteouts, which hide nothing."""
    for path in set().union(*hiding) - {b""}:
        having = list(_visible(layers, path))
        if len(having) == 1:
            yield Look(path, having[0])


def _visible(layers: Layers, path: bytes) -> Iterator[int]:
    """The layers whose folders at a path are merged."""
    for number in reversed(range(len(layers))):
        mode = layers.mode(number, path)
        if stat.S_ISDIR(max(mode, 0)):
            yield number
        elif mode != NOTHING:
            return
        if layers.hides(number, path):
            return


def _plan_implied(layers: Layers, implied: Sequence[frozenset[bytes]]) -> Iterator[Look]:
    wanted = sorted(set().union(*implied[1:])) if len(implied) > 1 else []
    alone: set[bytes] = set()  # in no other layer, and so nothing below it is
    for path in wanted:
        if path.rpartition(b"/")[0] in alone:
            alone.add(path)
            continue
        having = [number for number in range(len(layers)) if layers.mode(number, path) != NOTHING]
        if len(having) < 2:
            alone.add(path)
            continue
        source = _source(layers, implied, path)
        if source is not None:
            yield Look(path, source)


def _source(layers: Layers, implied: Sequence[frozenset[bytes]], path: bytes) -> int | None:
    """The layer that says how the merged folder looks; None where that already is what shows."""
    only_implied = False
    for number in reversed(range(len(layers))):
        mode = layers.mode(number, path)
        if mode == COVERED or (mode != NOTHING and not stat.S_ISDIR(mode)):
            return None
        if mode != NOTHING:
            if path not in implied[number]:
                return number if only_implied else None
            only_implied = True
        if layers.hides(number, path):
            return None
    return None


def apply(root: int, looks: Sequence[Look], diffs: Sequence[Path]) -> None:
    """Let the folders below `root`, where the layers are merged, look as planned."""
    for look in looks:
        layer = os.open(diffs[look.layer], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            said = syscalls.openat2(layer, os.fsdecode(look.path), _FOLDER, _PLAIN)
        finally:
            os.close(layer)
        try:
            merged = syscalls.openat2(root, os.fsdecode(look.path), _FOLDER, _PLAIN)
            try:
                _copy_look(said, merged)
            finally:
                os.close(merged)
        finally:
            os.close(said)


def _copy_look(said: int, merged: int) -> None:
    status = os.fstat(said)
    os.fchown(merged, status.st_uid, status.st_gid)
    os.fchmod(merged, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(said):
        if name.startswith("user."):
            os.setxattr(merged, name, os.getxattr(said, name))
    os.utime(merged, ns=(status.st_mtime_ns, status.st_mtime_ns))
