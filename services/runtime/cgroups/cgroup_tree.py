"""A cgroup by its path, in every hierarchy of the host: make, fill, count, empty and remove it.

Run by the runtime worker in threads, as root. Rules kept: a path comes from `cgroup_path`; only cgroups that this
worker made are removed; a cgroup is emptied by SIGKILL to the processes it lists, repeatedly until it lists none.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from kernel.errors import DeadlineExceeded, Internal
from kernel.host import pidfd
from kernel.host.aio import Deadline
from services.runtime.cgroups import cgroup_path, systemd
from services.runtime.cgroups.hierarchies import Hierarchies

_ROUNDS_BEFORE_FREEZE = 3
"""Rounds of signals after which a cgroup is frozen, because its processes fork faster than they are listed."""


class Cgroups:
    """The cgroups below every hierarchy's root."""

    def __init__(self, found: Hierarchies) -> None:
        self.hierarchies = found
        self._roots = [str(root) for root in found.roots]

    def folders(self, path: str) -> list[str]:
        """Return a cgroup's folder in each hierarchy; as str, not Path, because a container needs about a hundred."""
        return [f"{root}/{path.lstrip('/')}" for root in self._roots]

    def missing(self, path: str) -> list[str]:
        """Return which of a path and the paths above it no hierarchy has, the outermost first."""
        return [level for level in cgroup_path.levels(path) if not any(map(os.path.exists, self.folders(level)))]

    def exists(self, path: str) -> bool:
        """Return whether a cgroup is there in any hierarchy."""
        return any(map(os.path.exists, self.folders(path)))

    def make(self, path: str) -> None:
        """Make a cgroup and those above it in every hierarchy; one that is there is success."""
        try:
            for folder in self.folders(path):
                os.makedirs(folder, mode=0o755, exist_ok=True)
        except OSError as error:
            raise Internal(f"cgroup {path}: {error.filename}: {error.strerror}") from error

    def delegate(self, path: str) -> None:
        """Enable all controllers in a cgroup: with v2 alone, each level above must enable them for its children.

        A controller that cannot be enabled is no error here; it becomes one when its limit is written.
        """
        if not self.hierarchies.only_v2 or self.hierarchies.unified is None:
            return
        for level in ("/", *cgroup_path.levels(path)[:-1]):
            folder = f"{self.hierarchies.unified}{level}".rstrip("/")
            for name in _content(f"{folder}/cgroup.controllers").decode().split():
                with suppress(OSError):  # the level has processes, or the controller is not for children
                    Path(folder, "cgroup.subtree_control").write_text(f"+{name}")

    def enter(self, path: str, pid: int) -> None:
        """Put a process into a cgroup, which is made for it, so that it is counted and found there.

        Each v1 hierarchy that a process is moved in costs a wait inside the kernel. Memory and pids are enough, and
        on a host with systemd also its own hierarchy: otherwise the process would count as part of crisp's
        service there, and be ended with it.
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
        """Return the pids in a cgroup and below it, of all hierarchies."""
        found: set[int] = set()
        for folder in self.folders(path):
            for inner in _walk(folder):
                with suppress(OSError):  # removed between the listing and the reading
                    found.update(map(int, _content(f"{inner}/cgroup.procs").split()))
        found.discard(0)  # how v1 shows a process of another PID namespace
        return sorted(found)

    def inner(self, path: str, pid: int) -> str:
        """Return the cgroup of a process if it lies inside the named one; else, or with v1, an empty one."""
        if not self.hierarchies.only_v2:
            return ""
        try:
            return cgroup_path.inside(path, Path(f"/proc/{pid}/cgroup").read_text())
        except OSError:  # it has ended
            return ""

    def oom_kills(self, path: str) -> int | None:
        """Return the number of out-of-memory kills in a cgroup; None if the cgroup is gone."""
        root = self.hierarchies.root_of("memory")
        name = "memory.events" if self.hierarchies.only_v2 else "memory.oom_control"
        if root is None:
            return 0
        try:
            text = (root / path.lstrip("/") / name).read_text()
        except OSError:  # removed, or being removed
            return None
        counts = dict(line.split(" ", 1) for line in text.splitlines())
        return int(counts.get("oom_kill", 0))

    def lost_oom_kills(self, path: str) -> int:
        """Return the out-of-memory kills in cgroups directly below this one that are gone; always 0 with v1.

        cgroup v2 counts a cgroup's kills in those above it too, v1 does not. systemd removes a scope when its last
        process ends, mostly before the scope's count has been read.
        """
        if not self.hierarchies.only_v2:
            return 0
        (folder,) = self.folders(path)
        try:
            names = [entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        except OSError:  # removed, with everything in it
            return 0
        there = sum(self.oom_kills(f"{path}/{name}") or 0 for name in names)
        return max((self.oom_kills(path) or 0) - there, 0)

    def remove(self, path: str) -> None:
        """Remove an empty cgroup and all below it, in every hierarchy; none is success. Internal if it is in use."""
        for folder in self.folders(path):
            for inner in _walk(folder):
                _rmdir(inner)

    def remove_if_empty(self, path: str) -> bool:
        """Remove a cgroup that has no processes and no cgroups below it. Return whether it is gone everywhere."""
        if path.endswith((".slice", ".scope")) and os.path.exists(systemd.BUS):
            if self.below(path) or self.processes(path):
                return False
            systemd.stop(path.rpartition("/")[2])  # the unit is systemd's: without its folder it would still be listed
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
        """Return the paths of the cgroups below a path, the innermost first."""
        found: dict[str, None] = {}
        for root in self._roots:
            top = f"{root}/{path.lstrip('/')}"
            for inner in _walk(top):
                if inner != top:
                    found[inner.removeprefix(root)] = None
        return list(found)

    def set_frozen(self, path: str, *, frozen: bool) -> None:
        """Freeze or thaw a cgroup, if the host can."""
        freezer = self.hierarchies.v1.get("freezer")
        with suppress(OSError):  # it is gone, or there is no freezer: killing goes on without one
            if freezer is not None:
                (freezer / path.lstrip("/") / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
            elif self.hierarchies.unified is not None:
                (self.hierarchies.unified / path.lstrip("/") / "cgroup.freeze").write_text("1" if frozen else "0")

    def kill_at_once(self, path: str) -> bool:
        """Send SIGKILL to all processes of a cgroup at once, forks under way included.

        Return False if that cannot be done: the cgroup is gone, or the host has a v1 hierarchy or a kernel before 5.14.
        """
        if self.hierarchies.unified is None or not self.hierarchies.only_v2:
            return False
        try:
            (self.hierarchies.unified / path.lstrip("/") / "cgroup.kill").write_text("1")
        except OSError:  # the cgroup or the file is not there
            return False
        return True

    async def kill(self, paths: Iterable[str], deadline: Deadline) -> None:
        """Send SIGKILL to every process in the cgroups until there is none; DeadlineExceeded names the pids left."""
        wanted = list(paths)
        if len(wanted) > 1:  # mostly they are empty already: one thread looks at all
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
                # frozen processes cannot fork while the list is read; the signals take effect once they thaw
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
    """Yield a folder and the folders in it, the innermost first."""
    try:
        # a folder with two links, its name and its own `.`, has no folders in it: its files need not be listed
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
