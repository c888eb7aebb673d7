"""The overlay of a container in a user namespace: its layers appear owned by the namespace's users, without a chown.

Runs in threads of the storage worker. The overlay is built over an id-mapped copy of each layer's mount, because an
overlay itself cannot be id-mapped. Kernels before 6.15 take such a copy only by its path, so the copies are attached
for a moment, in a mount namespace of a throw-away thread, which vanishes with the thread. What the container writes
lies in the upper folder under the host's ids. Requires Linux 6.8 (a list of lower folders), and layers on a file system
that can be id-mapped.
"""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

from kernel.contracts.oci import IdMap, IdRange
from kernel.errors import CrispError, FailedPrecondition, Internal
from kernel.host import id_mapped, syscalls, thread
from services.storage.roots import overlay
from services.storage.roots.overlay import Plan


def attach(plan: Plan, namespace: Path, stage: Path) -> None:
    """Mount what is planned, with owners mapped by the user namespace pinned at `namespace`.

    `stage`: a folder over which the thread mounts, for itself alone. FailedPrecondition if the kernel, the file system
    or the pod cannot do it.
    """
    overlay.check(plan)
    longest = max(len(os.fsencode(path)) for path in (stage / "500", *(path for _, path in plan.writing)))
    if longest > overlay.LONGEST_VALUE:
        raise FailedPrecondition(
            f"id-mapped overlay at {plan.target}: its paths are longer than {overlay.LONGEST_VALUE} bytes",
            hint="a shorter `root` in the configuration",
        )
    try:
        mount = thread.run_blocking(lambda: _build(plan, namespace, stage), "id-mapped overlay")
        try:
            syscalls.move_mount(mount, plan.target)
        finally:
            os.close(mount)
    except OSError as error:
        raise _explain(error, plan) from error


def host_id(ids: IdRange, stored: int) -> int:
    """Return the host's id for the owner of a layer's file; if it is not mapped, that of the namespace's root. Pure."""
    inside = stored if ids.container_id <= stored < ids.container_id + ids.length else 0
    return inside - ids.container_id + ids.host_id


def owner(id_map: IdMap, uid: int, gid: int) -> tuple[int, int]:
    """Return user and group on the host for a file of a layer. Pure."""
    return host_id(id_map.uids, uid), host_id(id_map.gids, gid)


def _build(plan: Plan, namespace: Path, stage: Path) -> int:
    """Return the overlay, detached. It leaves the thread in a mount namespace, so that must be a throw-away one."""
    copies: list[int] = []
    try:
        userns = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for layer in plan.lower:
                copies.append(id_mapped.clone(layer, userns, recursive=False))
        finally:
            os.close(userns)
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount("stage", stage, "tmpfs")
        lower = tuple(stage / str(number) for number in range(len(copies)))
        for copy, point in zip(copies, lower, strict=True):
            point.mkdir()
            syscalls.move_mount(copy, point)
        return overlay.build(replace(plan, lower=lower))
    finally:
        for copy in copies:
            os.close(copy)


def _explain(error: OSError, plan: Plan) -> CrispError:
    what = f"id-mapped overlay of {len(plan.lower)} layers at {plan.target}: {error.filename}: {error.strerror}"
    if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
        return FailedPrecondition(
            what, hint="user namespaces require Linux 6.8 and layers on a file system that can be id-mapped"
        )
    if error.errno == errno.ENOENT:
        return FailedPrecondition(f"{what}: the pod has no user namespace")
    return Internal(what)
