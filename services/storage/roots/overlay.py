"""Overlay mounts: planned (pure), made, taken down, and read from the host's mount table.

Runs in threads of the storage worker. A mount is built detached and attached in one step (fsopen, fsmount, move_mount),
so a worker that is killed meanwhile leaves none. Kernels before 6.8 take no list of lower folders in this way: there
one mount(2) does it all. An overlay works with the capabilities of the process that mounted it: a capability that
the storage worker lacks is missing for every container's writes. Linux Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kernel.errors import FULL, CrispError, FailedPrecondition, Internal, InvalidInput, ResourceExhausted
from kernel.host import syscalls
from services.storage.trees import removal

MAX_LAYERS = 500
"""OVL_MAX_STACK of the kernel."""
LONGEST_VALUE = 255
"""Most bytes of the value of an option that fsconfig(2) takes."""
_NOT_KNOWN = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_READ_ONLY = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NODEV | syscalls.MOUNT_ATTR_NOSUID
_LABEL = re.compile(r"[A-Za-z0-9_.,:-]*", re.ASCII)
_ESCAPE = re.compile(r"\\([0-7]{3})")

OPTIONS: tuple[tuple[str, str], ...] = (
    ("metacopy", "off"),  # nothing in a layer may refer to another file's data
    ("redirect_dir", "nofollow"),  # nor at another directory
    ("index", "off"),
)
FLAGS = ("volatile",)
"""volatile: a container's writes do not outlive a crash of the host, so sync and unmount need not wait for the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One overlay mount."""

    lower: tuple[Path, ...]
    """Topmost first, as the kernel takes them."""
    upper: Path | None = None
    """None for a read-only mount."""
    work: Path | None = None
    target: Path
    label: str = ""
    """The SELinux context that all files show."""

    @property
    def writing(self) -> tuple[tuple[str, Path], ...]:
        """The writable layer's options; none if the mount is read-only."""
        return (("upperdir", self.upper), ("workdir", self.work)) if self.upper and self.work else ()


def plan_mount(layers: Sequence[Path], nothing: Path, folder: Path, target: Path, label: str = "") -> Plan:
    """Plan the mount of `layers`, lowest first, below the writable layer in `folder`. Pure.

    A layer that comes twice counts at its last place, where it hides and shows again all that it did lower down; the
    kernel takes no folder twice. An image without layers gets the folder `nothing`. FailedPrecondition for more layers
    than the kernel takes.
    """
    lower = tuple(dict.fromkeys(reversed(layers))) or (nothing,)
    if len(lower) > MAX_LAYERS:
        raise FailedPrecondition(f"image has {len(lower)} layers, more than the {MAX_LAYERS} that an overlay takes")
    return Plan(lower=lower, upper=folder / "upper", work=folder / "work", target=target, label=label)


def plan_read_only(layers: Sequence[Path], nothing: Path, target: Path, label: str = "") -> Plan:
    """Plan the read-only mount of `layers`, lowest first. Pure.

    The folder `nothing` is added as the lowest of all: without an upper folder the kernel requires two lower ones.
    """
    lower = (*dict.fromkeys(reversed(layers)), nothing)
    if len(lower) == 1:
        raise FailedPrecondition("an image without layers cannot be a volume")
    if len(lower) > MAX_LAYERS:
        raise FailedPrecondition(f"image has {len(lower) - 1} layers, more than the {MAX_LAYERS - 1} of a volume")
    return Plan(lower=lower, target=target, label=label)


def check(plan: Plan) -> None:
    """Raise InvalidInput for a label that could be read as more options than one."""
    if not _LABEL.fullmatch(plan.label):
        raise InvalidInput(f"label: {plan.label[:80]!r} is not an SELinux context")


def attach(plan: Plan) -> None:
    """Mount what is planned. ResourceExhausted, FailedPrecondition or Internal if the kernel refuses."""
    check(plan)
    try:
        used = (*plan.lower, *(path for _, path in plan.writing))
        if max(len(os.fsencode(path)) for path in used) > LONGEST_VALUE:
            mount_at_once(plan)
            return
        try:
            mount = build(plan)
        except OSError as error:
            if error.errno not in _NOT_KNOWN:
                raise
            mount_at_once(plan)
            return
        try:
            syscalls.move_mount(mount, plan.target)
        finally:
            os.close(mount)
    except OSError as error:
        raise _explain(error, plan) from error


@contextmanager
def for_a_moment(plan: Plan) -> Iterator[int]:
    """Mount what is planned for the body only, and yield a descriptor of its root."""
    try:
        try:
            root = build(plan)
        except OSError as error:
            if error.errno not in _NOT_KNOWN:
                raise
            mount_at_once(plan)
            root = os.open(plan.target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _explain(error, plan) from error
    try:
        yield root
    finally:
        os.close(root)
        detach(plan.target)


def try_one(folder: Path) -> str:
    """Try a small overlay in `folder`, which is made for it and deleted. Return why it fails; empty if it does not."""
    parts = [folder / name for name in ("lower", "upper", "work", "rootfs")]
    for part in parts:
        part.mkdir(parents=True)
    try:
        with for_a_moment(Plan(lower=(parts[0],), upper=parts[1], work=parts[2], target=parts[3])):
            return ""
    except CrispError as error:
        return str(error)
    finally:
        removal.delete(folder)


def build(plan: Plan) -> int:
    """Build the mount, detached. Return its descriptor; the mount vanishes when that is closed unattached."""
    context = syscalls.fsopen("overlay")
    try:
        syscalls.fsconfig_string(context, "source", "crisp")
        for lower in plan.lower:
            syscalls.fsconfig_string(context, "lowerdir+", str(lower))
        for key, path in plan.writing:
            syscalls.fsconfig_string(context, key, str(path))
        for key, value in OPTIONS:
            syscalls.fsconfig_string(context, key, value)
        if plan.label:
            syscalls.fsconfig_string(context, "context", plan.label)
        for flag in FLAGS if plan.writing else ("ro",):
            syscalls.fsconfig_flag(context, flag)
        syscalls.fsconfig_create(context, "overlay")
        return syscalls.fsmount(context, 0 if plan.writing else _READ_ONLY)
    finally:
        os.close(context)


def mount_at_once(plan: Plan) -> None:
    """Mount with mount(2). Its options must fit in one page, so the folders are named by descriptors."""
    with ExitStack() as stack:

        def name(path: Path) -> str:
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            return f"/proc/self/fd/{fd}"

        options = [
            "lowerdir=" + ":".join(name(path) for path in plan.lower),
            *(f"{key}={name(path)}" for key, path in plan.writing),
            *(f"{key}={value}" for key, value in OPTIONS),
            *(FLAGS if plan.writing else ()),
            *((f'context="{plan.label}"',) if plan.label else ()),
        ]
        flags = 0 if plan.writing else syscalls.MS_RDONLY | syscalls.MS_NODEV | syscalls.MS_NOSUID
        syscalls.mount("crisp", plan.target, "overlay", flags, ",".join(options))


def detach(target: Path) -> None:
    """Unmount all that is mounted at `target`; a busy mount goes when its last user does. Succeeds if there is none."""
    flags = syscalls.UMOUNT_NOFOLLOW
    while True:
        try:
            syscalls.umount2(target, flags)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            if error.errno != errno.EBUSY or flags & syscalls.MNT_DETACH:
                raise Internal(f"{target} cannot be unmounted: {error.strerror}") from error
            flags |= syscalls.MNT_DETACH


def read_overlays() -> set[str]:
    """Return the mount points of overlays in this mount namespace, as canonical paths."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return parse_overlays(file.read())


def parse_overlays(mountinfo: str) -> set[str]:
    """Return the mount points of overlays in a text of /proc/PID/mountinfo (proc(5)). Pure."""
    found: set[str] = set()
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("overlay "):
            found.add(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), before.split(" ")[4]))
    return found


def _explain(error: OSError, plan: Plan) -> CrispError:
    message = f"overlay of {len(plan.lower)} layers cannot be mounted at {plan.target}: {error.strerror}"
    if error.errno in FULL | {errno.ENOMEM}:
        return ResourceExhausted(message)
    if error.errno == errno.ENODEV:
        return FailedPrecondition(message, hint="the kernel has no overlay file system; try: modprobe overlay")
    return Internal(message)
