"""The overlay of a container in a user namespace: its layers appear owned by the namespace's users, without a chown.

Each layer comes in as an id-mapped copy of its mount; the overlay is laid over these. Overlayfs itself cannot be
id-mapped, and takes the copies by path only on kernels before 6.15, so they are attached for a moment: in a mount
namespace of a throw-away thread, which vanishes with it. What the container writes lies in the upper folder under the
host's ids. Wants Linux 6.8 (a list of lower folders), and layers on a file system that can be id-mapped.
"""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import replace
from pathlib import Path

from kernel.contracts.oci import IdMap, IdRange
from kernel.errors import CrispError, FailedPrecondition, Internal
from kernel.host import id_mapped, syscalls
from services.storage.roots import overlay
from services.storage.roots.overlay import Plan


def attach(plan: Plan, namespace: Path, stage: Path) -> None:
    """Mount what is planned, mapped as the user namespace pinned at `namespace` says. `stage` is a folder that the
    thread's mounts hide from itself."""
    overlay.check(plan)
    longest = max(len(os.fsencode(path)) for path in (stage / "500", *(path for _, path in plan.writing)))
    if longest > overlay.LONGEST_VALUE:
        raise FailedPrecondition(
            f"id-mapped overlay at {plan.target}: its paths are longer than {overlay.LONGEST_VALUE} bytes",
            hint="a shorter `root` in the configuration",
        )
    try:
        mount = _built(plan, namespace, stage)
        try:
            syscalls.move_mount(mount, plan.target)
        finally:
            os.close(mount)
    except OSError as error:
        raise _explain(error, plan) from error


def host_id(ids: IdRange, stored: int) -> int:
    """Whom on the host a file of a layer belongs to; the namespace's root where the namespace does not know its
    owner. Pure."""
    inside = stored if ids.container_id <= stored < ids.container_id + ids.length else 0
    return inside - ids.container_id + ids.host_id


def owner(id_map: IdMap, uid: int, gid: int) -> tuple[int, int]:
    """User and group on the host of a file of a layer. Pure."""
    return host_id(id_map.uids, uid), host_id(id_map.gids, gid)


def _built(plan: Plan, namespace: Path, stage: Path) -> int:
    """The overlay, detached."""
    outcome: list[int | OSError | CrispError] = []

    def work() -> None:
        try:
            outcome.append(_build(plan, namespace, stage))
        except (OSError, CrispError) as error:
            outcome.append(error)

    thread = threading.Thread(target=work, name="id-mapped overlay", daemon=True)
    thread.start()
    thread.join()
    found = outcome[0]
    if isinstance(found, Exception):
        raise found
    return found


def _build(plan: Plan, namespace: Path, stage: Path) -> int:
    """Changes the calling thread for good."""
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
            what, hint="user namespaces want Linux 6.8 and layers on a file system that can be id-mapped"
        )
    if error.errno == errno.ENOENT:
        return FailedPrecondition(f"{what}: the pod has no user namespace")
    return Internal(what)
