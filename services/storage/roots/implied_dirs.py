"""Directories that a layer only implies: its tar has entries below them, but none for them.

Runs in threads of the storage worker. Unpacked by itself such a layer has them as root's with mode 0755, and in an
overlay the owner and mode of the topmost layer's directory show. Unpacked over the layers below, its tar would have
changed nothing of them. So the merged directory gets the look (owner, mode, time, user.* attributes) of the topmost
layer whose tar has an entry for it. A directory with whiteouts that no other layer has is made in the extra layer as
well: otherwise the kernel would list these whiteouts. A plan is made once for the layers of an image.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from services.storage.roots.merged_view import COVERED, NOTHING, Layers
from services.storage.trees import within


class Look(NamedTuple):
    """A directory that has to look as a layer has it."""

    path: bytes
    layer: int
    """The number of the layer; the lowest is 0."""


def plan(
    layers: Layers, implied: Sequence[frozenset[bytes]], hiding: Sequence[frozenset[bytes]] = ()
) -> tuple[Look, ...]:
    """Return the directories to correct, parents first.

    `implied` and `hiding`: for each layer, lowest first, the directories that it implies or that have whiteouts.
    """
    looks = {look.path: look for look in _plan_alone(layers, hiding)}
    looks |= {look.path: look for look in _plan_implied(layers, implied)}
    return tuple(looks[path] for path in sorted(looks))


def _plan_alone(layers: Layers, hiding: Sequence[frozenset[bytes]]) -> Iterator[Look]:
    """Yield directories with whiteouts that are in one layer only: as nothing is merged, the kernel lists these."""
    for path in set().union(*hiding) - {b""}:
        having = list(_visible(layers, path))
        if len(having) == 1:
            yield Look(path, having[0])


def _visible(layers: Layers, path: bytes) -> Iterator[int]:
    """Yield the layers whose directories at a path are merged, topmost first."""
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
    alone: set[bytes] = set()  # in one layer only, and so is all below it
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
    """Return the layer whose look the merged directory has to have; None if it has that already."""
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
    """Let directories below the open merged `root` look as planned. `diffs`: the folders of the layers."""
    for look in looks:
        layer = os.open(diffs[look.layer], within.PLACE)
        try:
            source = within.open_plain(layer, look.path)
        finally:
            os.close(layer)
        try:
            merged = within.open_plain(root, look.path)
            try:
                _copy_look(source, merged)
            finally:
                os.close(merged)
        finally:
            os.close(source)


def _copy_look(source: int, merged: int) -> None:
    status = os.fstat(source)
    os.fchown(merged, status.st_uid, status.st_gid)
    os.fchmod(merged, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if name.startswith("user."):
            os.setxattr(merged, name, os.getxattr(source, name))
    os.utime(merged, ns=(status.st_mtime_ns, status.st_mtime_ns))
