"""A small layer on top of an image's own, for the images that need one: it mends what their layers together show.

Runs in threads of the storage worker. It is made in the container's folder and goes with it: folders that layers only
imply look as the layer says that has them, and the places where the OCI runtime mounts are plain. Most images need
none; whether one does is found once for its layers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kernel.config.paths import Paths
from kernel.ids import DiffId
from services.storage.layers.layer_store import LayerStore
from services.storage.roots import implied_dirs, merged_view, mountpoints, overlay
from services.storage.trees import removal

_MOST_PLANS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be mended."""

    root: int | None
    """The layer that says how the root folder looks; None where none does."""
    looks: tuple[implied_dirs.Look, ...]
    plain: tuple[bytes, ...]


class Tops:
    """Plans and makes top layers."""

    def __init__(self, paths: Paths, layers: LayerStore) -> None:
        self._paths = paths
        self._layers = layers
        self._plans: dict[tuple[DiffId, ...], Plan] = {}

    def stack(self, layers: Sequence[DiffId]) -> tuple[DiffId, ...]:
        """Each layer once, the lowest first. One that comes twice counts where it comes last: whatever it hid or showed
        lower down, it shows again there."""
        return tuple(reversed(dict.fromkeys(reversed(layers))))

    def diffs(self, layers: Sequence[DiffId]) -> list[Path]:
        """The folders of layers."""
        return [self._paths.layer(diff_id) / "diff" for diff_id in layers]

    def implied(self, diff_id: DiffId) -> frozenset[bytes]:
        """The folders that a layer only implies."""
        return _paths(self._layers.notes(diff_id).implied)

    def plan(self, stack: tuple[DiffId, ...]) -> Plan:
        """What the layers need."""
        if stack not in self._plans:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[stack] = self._plan(stack)
        return self._plans[stack]

    def _plan(self, stack: tuple[DiffId, ...]) -> Plan:
        records = [self._layers.find(diff_id) for diff_id in stack]
        saying = [number for number, record in enumerate(records) if record is not None and record.root]
        notes = [self._layers.notes(diff_id) for diff_id in stack]
        with merged_view.opened(self.diffs(stack)) as layers:
            return Plan(
                root=saying[-1] if saying else None,
                looks=implied_dirs.plan(
                    layers, [_paths(one.implied) for one in notes], [_paths(one.hiding) for one in notes]
                ),
                plain=mountpoints.plan(layers),
            )

    def make(self, stack: tuple[DiffId, ...], place: Path, *, volume: bool = False) -> Path | None:
        """The top layer of a container's root, or of an image volume: nothing is mounted in that, but no other layer
        says how its root looks. None where none is needed; made already is success."""
        plan = self.plan(stack)
        root = plan.root if volume and plan.root not in (None, len(stack) - 1) else None
        plain = () if volume else plan.plain
        if not plan.looks and not plain and root is None:
            return None
        if place.exists():
            return place
        fresh, work, stage = (place.with_name(f"{place.name}.{word}") for word in ("new", "work", "stage"))
        for folder in (fresh, work, stage):
            removal.delete(folder)
            folder.mkdir(mode=0o755)
        diffs = self.diffs(stack)
        lower = tuple(reversed(diffs))
        with overlay.for_a_moment(overlay.Plan(lower=lower, upper=fresh, work=work, target=stage)) as here:
            implied_dirs.apply(here, plan.looks, diffs)
            mountpoints.apply(here, plain)
        if plan.root is not None:
            copy_root(diffs[plan.root], fresh)
        fresh.rename(place)
        for folder in (work, stage):
            removal.delete(folder)
        return place


def _paths(spelled: tuple[str, ...]) -> frozenset[bytes]:
    return frozenset(path.encode("latin-1") for path in spelled)


def copy_root(source: Path, target: Path) -> None:
    """Let a folder look as another one does."""
    status = source.stat()
    os.chown(target, status.st_uid, status.st_gid)
    target.chmod(status.st_mode & 0o7777)
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
