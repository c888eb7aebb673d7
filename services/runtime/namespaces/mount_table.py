"""The mounts of this process, by /proc/self/mountinfo (proc(5))."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LOCAL = frozenset({
    "bcachefs", "bpf", "binfmt_misc", "btrfs", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs",
    "ecryptfs", "efivarfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fusectl", "hugetlbfs", "iso9660", "jfs",
    "mqueue", "msdos", "nsfs", "ntfs3", "overlay", "proc", "pstore", "ramfs", "reiserfs", "rootfs", "securityfs",
    "selinuxfs", "squashfs", "sysfs", "tmpfs", "tracefs", "udf", "vfat", "xfs", "zfs",
})  # fmt: skip
"""File systems that answer by themselves. Any other may wait for a server or a process."""
_ESCAPE = re.compile(r"\\([0-7]{3})")
"""The escapes by which the kernel writes spaces and backslashes of a path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMount:
    """A line of mountinfo."""

    point: str
    """Absolute path that it is mounted on."""
    fstype: str
    marks: tuple[str, ...]
    """Optional fields, which give the propagation: `shared:N`, `master:N`."""


def read() -> str:
    """Return the text of mountinfo; names that are not UTF-8 are kept as surrogates."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def parse(text: str) -> list[HostMount]:
    """Return the mounts of a mountinfo text. Pure."""
    mounts = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        words = before.split(" ")
        point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), words[4])
        mounts.append(HostMount(point=point, fstype=after.partition(" ")[0], marks=tuple(words[6:])))
    return mounts


def slow(text: str) -> list[HostMount]:
    """Return the mounts of a mountinfo text that could hang. Pure.

    The root is left out: if it hung, this worker would not run.
    """
    lines = (line for line in text.splitlines() if line.partition(" - ")[2].partition(" ")[0] not in _LOCAL)
    return [mount for mount in parse("\n".join(lines)) if mount.point != "/"]


def mount_of(path: str, mounts: Iterable[HostMount]) -> HostMount:
    """Return the mount that a resolved path is on: the last one at the longest mount point. Pure."""
    best = HostMount(point="/", fstype="", marks=())
    for mount in mounts:
        below = (path.rstrip("/") + "/").startswith(mount.point.rstrip("/") + "/")
        if below and len(mount.point) >= len(best.point):
            best = mount
    return best
