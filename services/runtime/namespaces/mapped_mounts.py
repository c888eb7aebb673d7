"""Makes id-mapped copies of volumes (mounts[].uidMappings, gidMappings), which the OCI runtime binds like any folder.

Run by the runtime worker. The copies are made here and not by the OCI runtime, so that they work with one that cannot
make any (runc before 1.2). They are attached below Paths.runtime_state, in `mounts/ID`, apart from the bundle: a bundle
is deleted with everything in it, but a mount here shows a user's data. So mount points are only unmounted here, and
removed one by one: if something is still mounted on one, the kernel refuses.
"""

from __future__ import annotations

import asyncio
import errno
import os
from dataclasses import dataclass
from pathlib import Path

from kernel.contracts.oci import IdMap
from kernel.contracts.runtime import CreateRequest, PodRequest, Propagation
from kernel.errors import CrispError, FailedPrecondition, Internal
from kernel.host import id_mapped, syscalls
from kernel.host.aio import Deadline
from kernel.ids import ContainerId
from services.runtime.namespaces import namespace_pins, user_namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One id-mapped copy to make."""

    index: int
    """The mount's index in the request."""
    source: str
    point: Path
    """The path at which the copy is attached."""
    id_map: IdMap
    slave: bool
    """Whether mounts that are made in the source later appear in the copy too."""


def folder(root: Path, container_id: ContainerId) -> Path:
    """Return the folder in which a container's copies are attached. `root`: Paths.runtime_state."""
    return root / "mounts" / container_id


def plan(root: Path, request: CreateRequest, sources: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[Copy, ...]]:
    """Return the paths that the OCI runtime shall bind, and the copies to make for that. Pure."""
    found, copies = list(sources), []
    for index, mount in enumerate(request.mounts):
        if mount.id_map is None:
            continue
        point = folder(root, request.container_id) / str(index)
        slave = mount.propagation is Propagation.HOST_TO_CONTAINER
        copies.append(Copy(index=index, source=sources[index], point=point, id_map=mount.id_map, slave=slave))
        found[index] = str(point)
    return tuple(found), tuple(copies)


async def make(copies: tuple[Copy, ...], pod: PodRequest, pin: Path, deadline: Deadline) -> None:
    """Attach the copies. `pin`: the pod's user namespace.

    A map other than the pod's gets a user namespace of its own, for the moment of the call.
    """
    for id_map in dict.fromkeys(copy.id_map for copy in copies):
        same = [copy for copy in copies if copy.id_map == id_map]
        if id_map == pod.user_namespace:
            await asyncio.to_thread(_attach, same, pin)
        else:
            async with user_namespace.child((), id_map, deadline) as made:
                await asyncio.to_thread(_attach, same, made / "user")


def remove(root: Path, container_id: ContainerId) -> None:
    """Unmount all copies of a container; none is success."""
    at = folder(root, container_id)
    try:
        names = os.listdir(at)
    except FileNotFoundError:  # it had none
        return
    for name in names:
        point = at / name
        namespace_pins.unmount(point)
        if point.is_dir():
            point.rmdir()
        else:
            point.unlink()
    at.rmdir()


def _attach(copies: list[Copy], namespace: Path) -> None:
    userns = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for copy in copies:
            try:
                _attach_one(copy, userns)
            except OSError as error:
                raise _explain(copy, error) from error
    finally:
        os.close(userns)


def _attach_one(copy: Copy, userns: int) -> None:
    propagation = syscalls.MS_SLAVE if copy.slave else syscalls.MS_PRIVATE
    fd = id_mapped.clone(copy.source, userns, recursive=True, propagation=propagation)
    try:
        copy.point.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.path.isdir(copy.source):
            copy.point.mkdir(mode=0o700, exist_ok=True)
        else:
            copy.point.touch(mode=0o600)
        syscalls.move_mount(fd, copy.point)
    finally:
        os.close(fd)


def _explain(copy: Copy, error: OSError) -> CrispError:
    field = f"mounts[{copy.index}].uidMappings"
    if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM):
        return FailedPrecondition(
            f"{field}: {copy.source!r} cannot be id-mapped: {error.strerror}",
            hint="kernel and file systems, those mounted below too, must support id-mapped mounts, and none be mapped",
        )
    return Internal(f"{field}: {copy.source!r}: {error.strerror}")
