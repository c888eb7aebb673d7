"""Finds the sources of a request's mounts on the host. Run by the runtime worker, in a throw-away thread.

Rules kept: a source is looked up once, with its symbolic links resolved, and only the resolved path is used. A source
that is missing is made as a folder, after everything else of the request was checked, unless the configuration lists
it or it cannot be made. `slow_sources` has checked before that no source hangs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from kernel.config.paths import Paths
from kernel.contracts.runtime import CreateRequest, Mount, Propagation
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.host import syscalls
from services.runtime.namespaces import mount_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The sources of a request's mounts, in its order."""

    paths: tuple[str, ...]
    """Absolute and resolved, except for missing ones."""
    missing: tuple[int, ...] = ()
    """Indices of those to be made as folders; their paths are as the request has them."""


def find(request: CreateRequest, paths: Paths, reject: Iterable[str] = ()) -> Found:
    """Return the source of each mount: mounts[].host_path, or a path in the image volume.

    InvalidInput for one that cannot be looked up, or that is missing and listed in `reject`; FailedPrecondition if the
    host's mounts do not allow mounts[].propagation.
    """
    refused = {os.path.normpath(path) for path in reject}
    found, missing = [], []
    for index, mount in enumerate(request.mounts):
        field = f"mounts[{index}].host_path: {mount.host_path!r}"
        if mount.image_volume is not None:
            found.append(_in_image(index, mount, paths.image_volume(request.container_id, mount.image_volume)))
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
    """Make the missing sources as folders, as other runtimes do; InvalidInput if one cannot be made."""
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


def _check_propagation(index: int, path: str, wanted: Propagation) -> None:
    """Raise FailedPrecondition if the mount that the path is on does not propagate mounts as `wanted` (mount(8)).

    A shared mount always does; a slave does for HOST_TO_CONTAINER.
    """
    mount = mount_table.mount_of(path, mount_table.parse(mount_table.read()))
    shared = any(mark.startswith("shared:") for mark in mount.marks)
    slave = any(mark.startswith("master:") for mark in mount.marks)
    if shared or (slave and wanted is Propagation.HOST_TO_CONTAINER):
        return
    raise FailedPrecondition(
        f"mounts[{index}].propagation: {path!r} lies on {mount.point!r}, which is not a shared mount",
        hint=f"mount --make-rshared {mount.point}",
    )


def _in_image(index: int, mount: Mount, volume: Path) -> str:
    """Return the host's path of an image volume, or of image_sub_path in it. Links are resolved inside the image."""
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
