"""An extra layer on top of an image's, made only if the merged view of the image's layers would otherwise be wrong.

Runs in threads of the storage worker. It corrects two things: directories that layers only imply (`implied_dirs`), and
links at the OCI runtime's mount points (`mountpoints`). It is made in the container's folder and goes with it. Most
images need none; whether one does is worked out once for its layers.
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
"""Plans that are kept; beyond that all are dropped and made again as they are needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The corrections that the merged view of some layers needs."""

    root: int | None
    """The topmost layer whose tar has an entry for its root, by number; None if none has."""
    looks: tuple[implied_dirs.Look, ...]
    """Directories that have to look as one of the layers has them."""
    plain: tuple[bytes, ...]
    """Paths at which there has to be a plain folder or file."""


class FixupLayers:
    """Plans and makes such layers."""

    def __init__(self, paths: Paths, layers: LayerStore) -> None:
        self._paths = paths
        self._layers = layers
        self._plans: dict[tuple[DiffId, ...], Plan] = {}

    def stack(self, layers: Sequence[DiffId]) -> tuple[DiffId, ...]:
        """Return each layer once, the lowest first.

        One that comes twice counts at its last place, where it hides and shows again all that it did lower down.
        """
        return tuple(reversed(dict.fromkeys(reversed(layers))))

    def diffs(self, layers: Sequence[DiffId]) -> list[Path]:
        """Return the folders with the files of layers."""
        return [self._paths.layer(diff_id) / "diff" for diff_id in layers]

    def implied(self, diff_id: DiffId) -> frozenset[bytes]:
        """Return the directories that a layer only implies."""
        return _paths(self._layers.notes(diff_id).implied)

    def plan(self, stack: tuple[DiffId, ...]) -> Plan:
        """Return the corrections that these layers need; from memory if they were worked out before."""
        if stack not in self._plans:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[stack] = self._plan(stack)
        return self._plans[stack]

    def _plan(self, stack: tuple[DiffId, ...]) -> Plan:
        records = [self._layers.find(diff_id) for diff_id in stack]
        with_root = [number for number, record in enumerate(records) if record is not None and record.root]
        notes = [self._layers.notes(diff_id) for diff_id in stack]
        with merged_view.opened(self.diffs(stack)) as layers:
            return Plan(
                root=with_root[-1] if with_root else None,
                looks=implied_dirs.plan(
                    layers, [_paths(one.implied) for one in notes], [_paths(one.hiding) for one in notes]
                ),
                plain=mountpoints.plan(layers),
            )

    def make(self, stack: tuple[DiffId, ...], place: Path, *, volume: bool = False) -> Path | None:
        """Return the extra layer at `place`, made unless it is there; None if none is needed.

        `volume`: it is for an image volume. Nothing is mounted inside one, so links may stay, but it has no writable
        layer whose mode and owner its root could show.
        """
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
            copy_look(diffs[plan.root], fresh)
        fresh.rename(place)
        for folder in (work, stage):
            removal.delete(folder)
        return place


def _paths(spelled: tuple[str, ...]) -> frozenset[bytes]:
    return frozenset(path.encode("latin-1") for path in spelled)


def copy_look(source: Path, target: Path) -> None:
    """Give a folder the owner, mode and time of another one."""
    status = source.stat()
    os.chown(target, status.st_uid, status.st_gid)
    target.chmod(status.st_mode & 0o7777)
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
