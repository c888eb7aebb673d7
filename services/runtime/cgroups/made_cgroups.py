"""Which levels of cgroup paths this worker made: only those are its to remove.

Run by the runtime worker in threads. Rules kept: a level is noted on disk before it is made, so that it is known after
any crash, but for a pod's own, which bears the pod's id; one that is in use stays, and is removed with its last user.
"""

from __future__ import annotations

import threading
from pathlib import Path

from services.runtime.cgroups import cgroup_path, systemd
from services.runtime.cgroups.cgroup_path import PodCgroup
from services.runtime.cgroups.hierarchies import Cgroups
from services.runtime.records.bundle import Record


class MadeCgroups:
    """The note of this worker."""

    def __init__(self, root: Path, cgroups: Cgroups) -> None:
        self._note = Record(root / "cgroups.json", list[str])
        self._noted = frozenset(self._note.read() or ())
        self._cgroups = cgroups
        self._lock = threading.Lock()

    def make(self, cgroup: PodCgroup, own: str = "") -> None:
        """Make a cgroup with all above it; `own` is the id of the pod that it may be named by."""
        with self._lock:
            self._make(cgroup, own)

    def enter(self, above: PodCgroup, path: str, pid: int) -> None:
        """Put a process into a cgroup of its own below another, which is made where it is not there."""
        with self._lock:
            self._make(above)
            self._cgroups.enter(path, pid)

    def remove(self, path: str, own: str = "") -> None:
        """Remove what of a path was made here and is in use no more."""
        with self._lock:
            gone = []
            for level in reversed(cgroup_path.levels(path)):
                ours = level in self._noted or _named_by(own, level)
                if not ours or not self._cgroups.remove_if_empty(level):
                    break
                gone.append(level)
            if not self._noted.isdisjoint(gone):
                self._keep(self._noted.difference(gone))

    def _make(self, cgroup: PodCgroup, own: str = "") -> None:
        missing = self._cgroups.missing(cgroup.path)
        if not self._noted.issuperset(new := [level for level in missing if not _named_by(own, level)]):
            self._keep(self._noted.union(new))
        if cgroup.driver == "systemd":
            if missing:
                systemd.make_slice(cgroup.name)
        else:
            self._cgroups.make(cgroup.path)

    def _keep(self, levels: frozenset[str]) -> None:
        self._note.write(sorted(levels))
        self._noted = levels


def _named_by(own: str, level: str) -> bool:
    return bool(own) and cgroup_path.owner(level) == own
