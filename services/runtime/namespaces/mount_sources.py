"""Where a request's mounts come from on the host. Run by the runtime worker, in a throw-away thread.

Rules kept: a source is looked at once, with its symbolic links resolved, and only the resolved path goes on. What is
missing is made as a folder, after everything else of the request was found right, unless the configuration lists it
or it cannot be made. A path on a file system that could hang (a dead network mount) is first touched by a process
that can be left behind.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from kernel.config.paths import Paths
from kernel.contracts.runtime import CreateRequest, Mount, Propagation
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.host import process, syscalls
from kernel.host.aio import Deadline

_ANSWER_SECONDS = 5.0
_AT_ONCE = 16
_LINKS = 40
_LOCAL = frozenset({
    "bcachefs", "bpf", "binfmt_misc", "btrfs", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs",
    "ecryptfs", "efivarfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fusectl", "hugetlbfs", "iso9660", "jfs",
    "mqueue", "msdos", "nsfs", "ntfs3", "overlay", "proc", "pstore", "ramfs", "reiserfs", "rootfs", "securityfs",
    "selinuxfs", "squashfs", "sysfs", "tmpfs", "tracefs", "udf", "vfat", "xfs", "zfs",
})  # fmt: skip
"""File systems that answer by themselves. Any other may wait for a server or a process."""
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMount:
    """A line of proc(5), /proc/PID/mountinfo."""

    point: str
    fstype: str
    marks: tuple[str, ...]
    """Optional fields: `shared:N`, `master:N`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The sources of a request's mounts, in its order."""

    paths: tuple[str, ...]
    missing: tuple[int, ...] = ()
    """Which are to be made as folders; their paths are as the request has them."""


async def wait_answers(request: CreateRequest, deadline: Deadline) -> None:
    """FailedPrecondition names the source whose file system does not answer."""
    wanted = [(index, mount.host_path) for index, mount in enumerate(request.mounts) if mount.image_volume is None]
    if not wanted:
        return
    doubtful = await asyncio.to_thread(_doubtful, wanted)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def look(index: int, path: str, on: HostMount) -> None:
        async with gate:
            if not await _answers(path, deadline):
                raise FailedPrecondition(
                    f"mounts[{index}].host_path: {path!r} does not answer within {_ANSWER_SECONDS:.0f} seconds",
                    hint=f"it lies on {on.point}, of the type {on.fstype}, which hangs",
                )

    results = await asyncio.gather(*(look(*one) for one in doubtful), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _doubtful(wanted: list[tuple[int, str]]) -> list[tuple[int, str, HostMount]]:
    """Those of the paths that lie on a file system which could hang, and the mount that is."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        slow = {mount.point: mount for mount in slow_mounts(file.read())}
    return [(index, path, slow[point]) for index, path in wanted if (point := entered(path, slow))] if slow else []


def slow_mounts(text: str) -> list[HostMount]:
    """The mounts of a mountinfo text that could hang. Not the root: what lies on it hung long before. Pure."""
    lines = (line for line in text.splitlines() if line.partition(" - ")[2].partition(" ")[0] not in _LOCAL)
    return [mount for mount in parse_mount_table("\n".join(lines)) if mount.point != "/"]


async def _answers(path: str, deadline: Deadline) -> bool:
    """Whether the path can be looked at. A process that hangs is killed and left to itself: it may not die yet."""
    started = process.launch(["stat", "-L", "--format=", "--", path])
    try:
        async with asyncio.timeout(max(deadline.earlier(_ANSWER_SECONDS).remaining(), 0)):
            await started.wait()
    except TimeoutError:
        return False
    finally:
        if started.returncode is None:
            process.kill_group(started)
    return True


def find(request: CreateRequest, paths: Paths, reject: Iterable[str] = ()) -> Found:
    """The real paths; InvalidInput for one that is missing and listed in `reject`, or that cannot be looked at."""
    refused = {os.path.normpath(path) for path in reject}
    found, missing = [], []
    for index, mount in enumerate(request.mounts):
        field = f"mounts[{index}].host_path: {mount.host_path!r}"
        if mount.image_volume is not None:
            found.append(_in_image(index, mount, paths.image_volume(request.container, mount.image_volume)))
            continue
        try:
            real = os.path.realpath(mount.host_path, strict=True)
        except FileNotFoundError:
            if os.path.normpath(mount.host_path) in refused:
                raise InvalidInput(f"{field} does not exist, and may not be made") from None
            real = mount.host_path
            missing.append(index)
        except OSError as error:
            raise InvalidInput(f"{field}: {error.strerror}") from error
        if mount.propagation is not Propagation.PRIVATE:
            _check_propagation(index, os.path.realpath(real), mount.propagation)
        found.append(real)
    return Found(paths=tuple(found), missing=tuple(missing))


def make_missing(found: Found) -> Found:
    """Make the missing sources as folders, as the peers do; InvalidInput where one cannot be made."""
    made = list(found.paths)
    for index in found.missing:
        path = made[index]
        try:
            os.makedirs(path, mode=0o755, exist_ok=True)
            made[index] = os.path.realpath(path, strict=True)
        except OSError as error:
            raise InvalidInput(
                f"mounts[{index}].host_path: {path!r} does not exist, and cannot be made: {error.strerror}"
            ) from error
    return replace(found, paths=tuple(made), missing=())


def entered(path: str, points: Iterable[str]) -> str:
    """The first of the mount points that looking the path up would enter; empty where none. Enters none itself."""
    at = ""
    todo = deque(path.split("/"))
    known = set(points)
    links = 0
    while todo:
        part = todo.popleft()
        if part in ("", "."):
            continue
        if part == "..":
            at = at.rpartition("/")[0]
            continue
        step = f"{at}/{part}"
        if step in known:
            return step
        try:
            target = os.readlink(step)
        except OSError:  # no link, or nothing there: then there is nothing to enter either
            at = step
            continue
        links += 1
        if links > _LINKS:
            return ""
        todo.extendleft(reversed(target.split("/")))
        at = "" if target.startswith("/") else at
    return ""


def mount_table() -> list[HostMount]:
    """The mounts of this process's namespace."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return parse_mount_table(file.read())


def parse_mount_table(text: str) -> list[HostMount]:
    """The lines of a mountinfo text. Pure."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        words = before.split(" ")
        point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), words[4])
        found.append(HostMount(point=point, fstype=after.partition(" ")[0], marks=tuple(words[6:])))
    return found


def _check_propagation(index: int, path: str, wanted: Propagation) -> None:
    """Bidirectional needs a shared mount below the path, host-to-container a shared or a slave one (mount(8))."""
    on = mount_of(path, mount_table())
    shared = any(mark.startswith("shared:") for mark in on.marks)
    slave = any(mark.startswith("master:") for mark in on.marks)
    if shared or (slave and wanted is Propagation.HOST_TO_CONTAINER):
        return
    raise FailedPrecondition(
        f"mounts[{index}].propagation: {path!r} lies on {on.point!r}, which is not a shared mount",
        hint=f"mount --make-rshared {on.point}",
    )


def mount_of(path: str, table: Iterable[HostMount]) -> HostMount:
    """The mount that a resolved path lies on: the last one on the longest point. Pure."""
    best = HostMount(point="/", fstype="", marks=())
    for mount in table:
        below = (path.rstrip("/") + "/").startswith(mount.point.rstrip("/") + "/")
        if below and len(mount.point) >= len(best.point):
            best = mount
    return best


def _in_image(index: int, mount: Mount, volume: Path) -> str:
    """The host's path of an image volume, or of a part of it: every link is resolved inside the image."""
    field = f"mounts[{index}].image_sub_path: {mount.image_sub_path!r}"
    if ".." in mount.image_sub_path.split("/") or mount.image_sub_path.startswith("/"):
        raise InvalidInput(f"{field} is not a relative path without '..'")
    resolve = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
    if not os.path.ismount(volume):
        raise FailedPrecondition(f"mounts[{index}].image: its image volume {volume} is not mounted")
    try:
        top = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = syscalls.openat2(top, mount.image_sub_path or ".", os.O_PATH, resolve)
        finally:
            os.close(top)
    except OSError as error:
        raise InvalidInput(f"{field} is not in the image: {error.strerror}") from error
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
