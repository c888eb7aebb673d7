"""Reads the usage of pods and containers from cgroup files, /proc and the pods' network namespaces.

Run by the runtime worker, on request only, in a throw-away thread, because it enters the network namespace of each pod.
No process is started. A pod, container or process that has gone since it was listed is left out.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from kernel.config.paths import Paths
from kernel.contracts.stats import (
    ContainerUsage,
    Detail,
    FileSystem,
    InterfaceUsage,
    PodUsage,
    Stats,
)
from kernel.host import syscalls
from kernel.ids import ContainerId, SandboxId
from services.runtime.cgroups.hierarchies import Hierarchies
from services.runtime.usage import cgroup_detail, cgroup_stats, net_dev

_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ESRCH, errno.EOPNOTSUPP, errno.EINVAL, errno.EACCES, errno.EPERM})
"""Errors of reading a cgroup or process that ends meanwhile, or a file that this kernel does not have."""
_READ_BYTES = 1 << 20
"""Most bytes of a file that are read."""
_DEVICES = Path("/sys/dev/block")
_PAGE_SIZES = Path("/sys/kernel/mm/hugepages")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPlace:
    """A container that has a process."""

    container_id: ContainerId
    cgroup: str
    """Path from the root of each hierarchy."""
    pid: int
    """The container's first process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPlace:
    """A pod, and the places of its statistics."""

    sandbox_id: SandboxId
    cgroup: str
    """Path from the root of each hierarchy."""
    netns: Path | None
    """Pin of its network namespace; None if it is in the host's network."""
    pause_pid: int
    """The pid of its pause process; 0 if it has none."""
    containers: tuple[ContainerPlace, ...]


class Reader:
    """Reads usage on this host. `read` leaves the calling thread in the network namespace of the last pod."""

    def __init__(self, hierarchies: Hierarchies, paths: Paths) -> None:
        self._roots: dict[str, str] = {name: str(path) for name, path in hierarchies.v1.items()}
        self._unified = str(hierarchies.unified) if hierarchies.unified else None
        self._v1 = frozenset(hierarchies.v1)
        self._paths = paths
        roots = [self._roots[name] for name in ("memory", "pids") if name in self._roots]
        self._processes_root = (roots or [str(root) for root in hierarchies.roots])[0]

    def read(self, pods: Iterable[PodPlace], *, detail: bool) -> Stats:
        """Return the usage of those pods that still exist. `detail`: include the values that only metrics show."""
        names = _device_names() if detail else {}
        sizes = _page_sizes() if detail else ()
        found = []
        for place in pods:
            containers = tuple(self._container(one, detail, sizes, names) for one in place.containers)
            found.append(
                PodUsage(
                    sandbox_id=place.sandbox_id,
                    usage=cgroup_stats.usage(self._files(place.cgroup), self._v1, time.time_ns()),
                    processes=sum(one.processes for one in containers) + (place.pause_pid > 0),
                    containers=containers,
                    interfaces=_interfaces(place.netns) if place.netns else None,
                )
            )
        return Stats(pods=tuple(found), writable_layers=self._file_system(names) if detail else None)

    def _container(
        self, place: ContainerPlace, detail: bool, sizes: Iterable[str], names: cgroup_detail.Names
    ) -> ContainerUsage:
        read, pids = self._files(place.cgroup), self._pids(f"{self._processes_root}{place.cgroup}")
        more: Detail | None = None
        if detail:
            more = cgroup_detail.detail(read, self._v1, sizes, names)
            more = _with_processes(more, pids, place.pid)
        return ContainerUsage(
            container_id=place.container_id,
            usage=cgroup_stats.usage(read, self._v1, time.time_ns()),
            processes=len(pids),
            detail=more,
        )

    def _files(self, cgroup: str) -> cgroup_stats.Read:
        def read(controller: str, name: str) -> str | None:
            root = self._roots.get(controller) if controller else self._unified
            return None if root is None else _text(f"{root}{cgroup}/{name}")

        return read

    def _pids(self, folder: str) -> list[int]:
        """Return the processes of a cgroup and of those below it; v1 shows one of another PID namespace as 0."""
        pids = [int(pid) for pid in (_text(f"{folder}/cgroup.procs") or "").split()]
        try:
            if os.stat(folder).st_nlink > 2:  # it has cgroups below it
                for entry in os.scandir(folder):
                    if entry.is_dir(follow_symlinks=False):
                        pids += self._pids(entry.path)
        except OSError as error:
            if error.errno not in _GONE:
                raise
        return pids

    def _file_system(self, names: cgroup_detail.Names) -> FileSystem:
        found = os.statvfs(self._paths.containers)
        device = os.stat(self._paths.containers).st_dev
        return FileSystem(
            device=names.get((os.major(device), os.minor(device)), ""),
            bytes=found.f_blocks * found.f_frsize,
            inodes=found.f_files,
            inodes_free=found.f_ffree,
        )


def _text(path: str) -> str | None:
    """Return the content of a kernel's file; None if it does not exist (any more)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, _READ_BYTES).decode(errors="replace")
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise


def _interfaces(netns: Path) -> tuple[InterfaceUsage, ...]:
    """Return the interfaces of a pinned namespace, which the thread enters and stays in."""
    try:
        fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(fd, syscalls.CLONE_NEWNET)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _GONE:  # the pod is being removed: its pin is gone, or a plain file
            return ()
        raise
    return net_dev.parse(_text("/proc/thread-self/net/dev") or "")


def _with_processes(detail: Detail, pids: list[int], first: int) -> Detail:
    """Add the values of the processes in /proc. `first`: the one with the container's own limits."""
    descriptors = sockets = 0
    for pid in pids:
        links = _links(f"/proc/{pid}/fd")
        descriptors += len(links)
        sockets += sum(link.startswith("socket:") for link in links)
    limits = re.search(r"^Max open files +(\d+)", _text(f"/proc/{first}/limits") or "", re.MULTILINE)
    return replace(
        detail,
        file_descriptors=descriptors,
        sockets=sockets,
        open_files_limit=int(limits.group(1)) if limits else None,
    )


def _links(folder: str) -> list[str]:
    """Return the targets of the links in a folder; links that are gone meanwhile are left out."""
    found = []
    try:
        for name in os.listdir(folder):
            try:
                found.append(os.readlink(f"{folder}/{name}"))
            except FileNotFoundError:  # closed meanwhile
                continue
    except OSError as error:
        if error.errno not in _GONE:
            raise
    return found


def _device_names() -> cgroup_detail.Names:
    """Return the names of block devices by their numbers: the links in /sys/dev/block end in them."""
    found: dict[tuple[int, int], str] = {}
    if _DEVICES.is_dir():
        for name in os.listdir(_DEVICES):
            major, _, minor = name.partition(":")
            if major.isdigit() and minor.isdigit():
                found[int(major), int(minor)] = os.readlink(_DEVICES / name).rpartition("/")[2]
    return found


def _page_sizes() -> tuple[str, ...]:
    """Return the host's sizes of huge pages as cgroup files spell them: `hugepages-2048kB` is 2MB."""
    if not _PAGE_SIZES.is_dir():
        return ()
    return tuple(page_size(int(re.sub(r"\D", "", name))) for name in sorted(os.listdir(_PAGE_SIZES)))


def page_size(kilobytes: int) -> str:
    """Return a size of huge pages as cgroup files spell it. Pure."""
    for unit, factor in (("GB", 1 << 20), ("MB", 1 << 10)):
        if kilobytes >= factor:
            return f"{kilobytes // factor}{unit}"
    return f"{kilobytes}KB"
