"""The host's cgroup hierarchies (v1, hybrid and v2): make, fill, empty and remove a cgroup by its path.

Run by the runtime worker in threads, as root. Rules kept: a path comes from `cgroup_path`; only cgroups that this
worker made are removed; a cgroup is emptied by SIGKILL to what it lists, again until it lists nothing.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kernel.errors import DeadlineExceeded, Internal
from kernel.host import pidfd
from kernel.host.aio import Deadline
from services.runtime.cgroups import cgroup_path, systemd

_MOUNTINFO = Path("/proc/self/mountinfo")
_ROUNDS_BEFORE_FREEZE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchies:
    """Where the controllers are mounted."""

    unified: Path | None
    """cgroup v2; beside v1 controllers on a hybrid host."""
    v1: dict[str, Path]

    @property
    def only_v2(self) -> bool:
        """No v1 controller is mounted."""
        return not self.v1

    @property
    def roots(self) -> list[Path]:
        """Every hierarchy once."""
        return list(dict.fromkeys([*self.v1.values(), *([self.unified] if self.unified else [])]))

    def controllers(self) -> frozenset[str]:
        """The controllers that can limit something here."""
        if self.only_v2 and self.unified:
            return frozenset((self.unified / "cgroup.controllers").read_text().split())
        return frozenset(self.v1)

    def swap_accounting(self) -> bool:
        """Whether memory and swap together can be limited."""
        if self.only_v2:
            return Path("/proc/swaps").exists() and "memory" in self.controllers()
        return "memory" in self.v1 and (self.v1["memory"] / "memory.memsw.limit_in_bytes").exists()

    def limits_block_io(self) -> bool:
        """Whether I/O on block devices can be limited."""
        return ("io" if self.only_v2 else "blkio") in self.controllers()

    def block_io_weight(self) -> str:
        """The file by which it is weighed, empty for none: the kernel shows them only in cgroups below the root."""
        root, names = (
            (self.unified, ("io.weight", "io.bfq.weight")) if self.only_v2
            else (self.v1.get("blkio"), ("blkio.weight", "blkio.bfq.weight"))
        )  # fmt: skip
        return next((name for name in names if root and next(root.glob(f"*/{name}"), None)), "")


def hierarchies() -> Hierarchies:
    """Read where cgroups are mounted in this mount namespace."""
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


def driver(configured: str) -> cgroup_path.Driver:
    """The configured driver; by itself systemd where systemd is process 1."""
    if configured == "auto":
        return "systemd" if os.path.isdir("/run/systemd/system") else "cgroupfs"
    return "systemd" if configured == "systemd" else "cgroupfs"


class Cgroups:
    """The cgroups below every hierarchy's root."""

    def __init__(self, found: Hierarchies) -> None:
        self.hierarchies = found
        self._roots = [str(root) for root in found.roots]

    def folders(self, path: str) -> list[str]:
        """A cgroup's folder in each hierarchy. Plain text here and below: each container costs some hundred of them."""
        return [f"{root}/{path.lstrip('/')}" for root in self._roots]

    def missing(self, path: str) -> list[str]:
        """Of a path and those above it, the ones that are in no hierarchy."""
        return [level for level in cgroup_path.levels(path) if not any(map(os.path.exists, self.folders(level)))]

    def exists(self, path: str) -> bool:
        """Whether a cgroup is there in any hierarchy."""
        return any(map(os.path.exists, self.folders(path)))

    def make(self, path: str) -> None:
        """Make a cgroup and those above it in every hierarchy; there already is success."""
        try:
            for folder in self.folders(path):
                os.makedirs(folder, mode=0o755, exist_ok=True)
        except OSError as error:
            raise Internal(f"cgroup {path}: {error.filename}: {error.strerror}") from error

    def delegate(self, path: str) -> None:
        """Let the controllers work in a cgroup: with v2 alone each level above must hand them on. What cannot be is
        noticed where a limit is written."""
        if not self.hierarchies.only_v2 or self.hierarchies.unified is None:
            return
        for level in ("/", *cgroup_path.levels(path)[:-1]):
            folder = f"{self.hierarchies.unified}{level}".rstrip("/")
            for name in _content(f"{folder}/cgroup.controllers").decode().split():
                with suppress(OSError):  # busy, or not for children
                    Path(folder, "cgroup.subtree_control").write_text(f"+{name}")

    def enter(self, path: str, pid: int) -> None:
        """Put a process into a cgroup of its own making, for what it takes to be counted and found.

        Each v1 hierarchy that a process moves through costs a wait inside the kernel: memory and pids are enough,
        and the one by which a systemd would count it among our own processes, and end it with them.
        """
        if path.endswith(".scope"):
            systemd.make_scope(path, pid)
            return
        v1 = self.hierarchies.v1
        names = ("memory", "pids", "systemd") if os.path.isdir("/run/systemd/system") else ("memory", "pids")
        roots = list(dict.fromkeys(str(v1[name]) for name in names if name in v1)) or self._roots[:1]
        for root in roots:
            folder = f"{root}/{path.lstrip('/')}"
            try:
                os.makedirs(folder, mode=0o755, exist_ok=True)
                Path(folder, "cgroup.procs").write_text(str(pid))
            except OSError as error:
                raise Internal(f"process {pid} into cgroup {folder}: {error.strerror}") from error

    def processes(self, path: str) -> list[int]:
        """The processes in a cgroup and below it, of all hierarchies."""
        found: set[int] = set()
        for folder in self.folders(path):
            for inner in _walk(folder):
                with suppress(OSError):  # gone between the listing and the reading
                    found.update(map(int, _content(f"{inner}/cgroup.procs").split()))
        found.discard(0)  # how v1 shows a process of another PID namespace
        return sorted(found)

    def inner(self, path: str, pid: int) -> str:
        """The cgroup of a process where that lies inside the named one, on a host with v2 alone; else empty."""
        if not self.hierarchies.only_v2:
            return ""
        try:
            return cgroup_path.inside(path, Path(f"/proc/{pid}/cgroup").read_text())
        except OSError:  # it has ended
            return ""

    def oom_kills(self, path: str) -> int | None:
        """How often the kernel's out-of-memory killer struck in a cgroup; None where the cgroup is gone."""
        root, name = (
            (self.hierarchies.unified, "memory.events") if self.hierarchies.only_v2
            else (self.hierarchies.v1.get("memory"), "memory.oom_control")
        )  # fmt: skip
        if root is None:
            return 0
        try:
            text = (root / path.lstrip("/") / name).read_text()
        except OSError:  # removed, or being removed
            return None
        counts = dict(line.split(" ", 1) for line in text.splitlines())
        return int(counts.get("oom_kill", 0))

    def lost_oom_kills(self, path: str) -> int:
        """How often it struck in cgroups directly below this one that are gone. cgroup v2 only: v1 counts each alone.

        systemd removes a scope when its last process ends, mostly before anybody has read what the scope counted.
        """
        if not self.hierarchies.only_v2:
            return 0
        (folder,) = self.folders(path)
        try:
            names = [entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        except OSError:  # gone with all that was in it
            return 0
        there = sum(self.oom_kills(f"{path}/{name}") or 0 for name in names)
        return max((self.oom_kills(path) or 0) - there, 0)

    def remove(self, path: str) -> None:
        """Remove an empty cgroup and all below it, in every hierarchy; gone already is success."""
        for folder in self.folders(path):
            for inner in _walk(folder):
                _rmdir(inner)

    def remove_if_empty(self, path: str) -> bool:
        """Remove a cgroup that has neither processes nor cgroups below it; whether it is gone everywhere."""
        if path.endswith((".slice", ".scope")) and os.path.exists(systemd.BUS):
            if self.below(path) or self.processes(path):
                return False
            systemd.stop(path.rpartition("/")[2])  # whose it is: without its folder it would still be listed
        gone = True
        for folder in self.folders(path):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue
            except OSError:  # in use: it stays
                gone = False
        return gone

    def below(self, path: str) -> list[str]:
        """The cgroups below a path, the innermost first."""
        found: dict[str, None] = {}
        for root in self._roots:
            top = f"{root}/{path.lstrip('/')}"
            for inner in _walk(top):
                if inner != top:
                    found[inner.removeprefix(root)] = None
        return list(found)

    def set_frozen(self, path: str, *, frozen: bool) -> None:
        """Freeze or thaw a cgroup as far as the host can."""
        freezer = self.hierarchies.v1.get("freezer")
        with suppress(OSError):  # gone, or no freezer: killing goes on without
            if freezer is not None:
                (freezer / path.lstrip("/") / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
            elif self.hierarchies.unified is not None:
                (self.hierarchies.unified / path.lstrip("/") / "cgroup.freeze").write_text("1" if frozen else "0")

    def kill_at_once(self, path: str) -> bool:
        """SIGKILL to all in a cgroup, forks under way included; False where the host has no such means."""
        if self.hierarchies.unified is None or not self.hierarchies.only_v2:
            return False
        try:
            (self.hierarchies.unified / path.lstrip("/") / "cgroup.kill").write_text("1")
        except OSError:  # gone, or a kernel before 5.14
            return False
        return True

    async def kill(self, paths: Iterable[str], deadline: Deadline) -> None:
        """SIGKILL to every process in the cgroups until there is none; DeadlineExceeded names what is left."""
        wanted = list(paths)
        if len(wanted) > 1:  # mostly nothing is left in any of them
            wanted = await asyncio.to_thread(lambda: [path for path in wanted if self.processes(path)])
        for path in wanted:
            await self._kill_one(path, deadline)

    async def _kill_one(self, path: str, deadline: Deadline) -> None:
        turn = 0
        while pids := await asyncio.to_thread(self.processes, path):
            if deadline.remaining() <= 0:
                raise DeadlineExceeded(f"cgroup {path}: processes {pids[:8]} do not end")
            at_once = self.hierarchies.only_v2 and await asyncio.to_thread(self.kill_at_once, path)
            forks_on = not at_once and turn >= _ROUNDS_BEFORE_FREEZE
            if forks_on:
                # frozen, it cannot make new ones while the list is read; the signals work once it thaws
                await asyncio.to_thread(self.set_frozen, path, frozen=True)
                pids = await asyncio.to_thread(self.processes, path)
            ending = pidfd.kill(pids, max(deadline.remaining(), 0))
            if forks_on:
                thaw = asyncio.to_thread(self.set_frozen, path, frozen=False)
                ended, _ = await asyncio.gather(ending, thaw)
            else:
                ended = await ending
            turn += 1
            if not ended:
                raise DeadlineExceeded(f"cgroup {path}: processes {pids[:8]} do not end")


def _walk(folder: str) -> Iterator[str]:
    """A folder and the folders in it, the innermost first."""
    try:
        # two links are its name and its own dot: nothing to look for among the files
        inside = os.stat(folder).st_nlink != 2
        names = [one.name for one in os.scandir(folder) if one.is_dir(follow_symlinks=False)] if inside else []
    except FileNotFoundError:
        return
    for name in names:
        yield from _walk(f"{folder}/{name}")
    yield folder


def _content(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = b""
        while part := os.read(fd, 1 << 16):
            found += part
        return found
    finally:
        os.close(fd)


def _rmdir(folder: str) -> None:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
            raise Internal(f"cgroup {folder} is still in use") from error
        raise Internal(f"cgroup {folder}: {error.strerror}") from error
