"""The host's cgroup hierarchies (v1, hybrid or v2): their mount points and their controllers.

Run by the runtime worker. Reads mountinfo and a few files below the mount points; changes nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kernel.errors import Internal
from services.runtime.cgroups import cgroup_path

_MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchies:
    """The mount points of the controllers."""

    unified: Path | None
    """The mount point of cgroup v2; on a hybrid host it is there beside v1 controllers."""
    v1: dict[str, Path]
    """The mount points of v1 by the name of the controller or hierarchy."""

    @property
    def only_v2(self) -> bool:
        """Whether no v1 controller is mounted."""
        return not self.v1

    @property
    def roots(self) -> list[Path]:
        """The mount point of every hierarchy, each once."""
        return list(dict.fromkeys([*self.v1.values(), *([self.unified] if self.unified else [])]))

    def root_of(self, controller: str) -> Path | None:
        """Return the mount point of the hierarchy that has a controller; None if none has. v2 may lack it."""
        return self.unified if self.only_v2 else self.v1.get(controller)

    def controllers(self) -> frozenset[str]:
        """Return the controllers that can limit a resource on this host."""
        if self.only_v2 and self.unified:
            return frozenset((self.unified / "cgroup.controllers").read_text().split())
        return frozenset(self.v1)

    def swap_accounting(self) -> bool:
        """Return whether memory and swap together can be limited."""
        if self.only_v2:
            return Path("/proc/swaps").exists() and "memory" in self.controllers()
        return "memory" in self.v1 and (self.v1["memory"] / "memory.memsw.limit_in_bytes").exists()

    def limits_block_io(self) -> bool:
        """Return whether I/O on block devices can be limited."""
        return ("io" if self.only_v2 else "blkio") in self.controllers()

    def block_io_weight(self) -> str:
        """Return the name of the file that holds the weight of block I/O; empty if there is none.

        The kernel shows these files only in cgroups below the root, so one of them is looked at.
        """
        root, names = (
            (self.unified, ("io.weight", "io.bfq.weight")) if self.only_v2
            else (self.v1.get("blkio"), ("blkio.weight", "blkio.bfq.weight"))
        )  # fmt: skip
        return next((name for name in names if root and next(root.glob(f"*/{name}"), None)), "")


def find() -> Hierarchies:
    """Read the mount points of cgroups in this mount namespace; Internal if there is none."""
    unified: Path | None = None
    v1: dict[str, Path] = {}
    for line in _MOUNTINFO.read_text().splitlines():
        before, _, after = line.partition(" - ")
        point, (kind, _, options) = Path(before.split()[4]), after.split(" ", 2)
        if kind == "cgroup2":
            unified = unified or point
        elif kind == "cgroup":
            for option in options.split(","):
                if option not in ("rw", "ro", "xattr", "clone_children"):
                    v1.setdefault(option.removeprefix("name="), point)
    if unified is None and not v1:
        raise Internal("no cgroup hierarchy is mounted on this host")
    return Hierarchies(unified=unified, v1=v1)


def choose_driver(configured: str) -> cgroup_path.Driver:
    """Return the configured cgroup driver; for `auto` systemd if it is process 1, else cgroupfs."""
    if configured == "auto":
        return "systemd" if os.path.isdir("/run/systemd/system") else "cgroupfs"
    return "systemd" if configured == "systemd" else "cgroupfs"
