"""The note of the levels of cgroup paths that this worker made: only those may it remove.

Run by the runtime worker in threads. Rules kept: a level is noted on disk before it is made, so that it is known after
any crash (a pod's own cgroup needs no note: its name has the pod's id in it); a level that is in use stays, and is
removed with its last user.
"""

from __future__ import annotations

import threading
from pathlib import Path

from services.runtime.cgroups import cgroup_path, systemd
from services.runtime.cgroups.cgroup_path import PodCgroup
from services.runtime.cgroups.cgroup_tree import Cgroups
from services.runtime.records.bundle import Record


class MadeCgroups:
    """The note of one worker; makes and removes cgroups by it."""

    def __init__(self, root: Path, cgroups: Cgroups) -> None:
        """Read the note of an earlier worker, from `cgroups.json` in `root`."""
        self._note = Record(root / "cgroups.json", list[str])
        self._noted = frozenset(self._note.read() or ())
        self._cgroups = cgroups
        self._lock = threading.Lock()

    def make(self, cgroup: PodCgroup, own_id: str = "") -> None:
        """Make a cgroup with all above it. `own_id`: the id of the pod that it may be named by."""
        with self._lock:
            self._make(cgroup, own_id)

    def enter(self, above: PodCgroup, path: str, pid: int) -> None:
        """Put a process into the cgroup `path`, which is made for it directly below `above`.

        `above` is made too if it is missing.
        """
        with self._lock:
            self._make(above)
            self._cgroups.enter(path, pid)

    def remove(self, path: str, own_id: str = "") -> None:
        """Remove the levels of a path that were made here and are no longer in use."""
        with self._lock:
            gone = []
            for level in reversed(cgroup_path.levels(path)):
                ours = level in self._noted or _is_named_by(own_id, level)
                if not ours or not self._cgroups.remove_if_empty(level):
                    break
                gone.append(level)
            if not self._noted.isdisjoint(gone):
                self._keep(self._noted.difference(gone))

    def _make(self, cgroup: PodCgroup, own_id: str = "") -> None:
        missing = self._cgroups.missing(cgroup.path)
        if not self._noted.issuperset(new := [level for level in missing if not _is_named_by(own_id, level)]):
            self._keep(self._noted.union(new))
        if cgroup.driver == "systemd":
            if missing:
                systemd.make_slice(cgroup.name)
        else:
            self._cgroups.make(cgroup.path)

    def _keep(self, levels: frozenset[str]) -> None:
        self._note.write(sorted(levels))
        self._noted = levels


def _is_named_by(own_id: str, level: str) -> bool:
    return bool(own_id) and cgroup_path.owner(level) == own_id
