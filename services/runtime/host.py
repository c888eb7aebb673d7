"""What the host offers and what a request's host paths are: read once, or per request in a throw-away thread.

Run by the runtime worker. Rules kept: a host path is looked at once, with its symbolic links resolved, and only the
resolved path goes on; a device must be a device node; nothing is created on the host for a request's mount.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from kernel.contracts.runtime import CreateRequest, Propagation
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.host import syscalls
from services.runtime import capabilities
from services.runtime.cgroup import Hierarchies
from services.runtime.oci_spec import DeviceNode, Host

_DEVICES_LIMIT = 1024
_NOT_DEVICES = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"})
"""Of /dev: made afresh in each container, or no devices."""
_CAP_SYS_RESOURCE = 24


def read(found: Hierarchies) -> Host:
    """What the host and this process allow."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return Host(
        unified=found.only_v2,
        controllers=found.controllers(),
        swap_accounting=found.swap_accounting(),
        bounding=capabilities.from_mask(int(status["CapBnd"], 16)),
        oom_score_adj=int(Path("/proc/self/oom_score_adj").read_text()),
        may_lower_oom_score=bool(int(status["CapEff"], 16) >> _CAP_SYS_RESOURCE & 1),
        hostname=socket.gethostname(),
    )


def host_name() -> str:
    """The host's own name."""
    return socket.gethostname()


def resolv_conf() -> bytes:
    """The host's resolv.conf, for pods that name no DNS servers; empty where there is none."""
    try:
        return Path("/etc/resolv.conf").read_bytes()
    except OSError:  # none: the pod has none either
        return b""


def mount_sources(request: CreateRequest) -> tuple[str, ...]:
    """The real paths of the request's mounts; InvalidInput where one does not exist. May hang on a dead mount."""
    sources = []
    for index, mount in enumerate(request.mounts):
        field = f"mounts[{index}].host_path: {mount.host_path!r}"
        try:
            real = os.path.realpath(mount.host_path, strict=True)
        except FileNotFoundError:
            raise InvalidInput(f"{field} does not exist") from None
        except OSError as error:
            raise InvalidInput(f"{field}: {error.strerror}") from error
        if mount.propagation is not Propagation.PRIVATE:
            _check_propagation(index, real, mount.propagation)
        sources.append(real)
    return tuple(sources)


def _check_propagation(index: int, path: str, wanted: Propagation) -> None:
    """Bidirectional needs a shared mount below the path, host-to-container a shared or a slave one (mount(8))."""
    point, marks = _mount_of(path)
    shared = any(mark.startswith("shared:") for mark in marks)
    slave = any(mark.startswith("master:") for mark in marks)
    if shared or (slave and wanted is Propagation.HOST_TO_CONTAINER):
        return
    raise FailedPrecondition(
        f"mounts[{index}].propagation: {path!r} lies on {point!r}, which is not a shared mount",
        hint=f"mount --make-rshared {point}",
    )


def _mount_of(path: str) -> tuple[str, list[str]]:
    """The mount that a path lies on, and its propagation marks."""
    best, marks = "/", list[str]()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.partition(" - ")[0].split()
        point = fields[4].replace("\\040", " ")
        if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, marks = point, fields[6:]
    return best, marks


def devices(request: CreateRequest) -> tuple[DeviceNode, ...]:
    """The devices that a container gets: all of the host's for a privileged one, and those of the request."""
    found: dict[str, DeviceNode] = {}
    if request.security.privileged:
        found = {node.path: node for node in _nodes(Path("/dev"), "/dev", "rwm", skip=_NOT_DEVICES)}
    for index, device in enumerate(request.devices):
        field = f"devices[{index}]"
        if not set(device.permissions) <= set("rwm") or not device.permissions:
            raise InvalidInput(f"{field}.permissions: {device.permissions[:16]!r} is not made of r, w and m")
        if not device.container_path.startswith("/") or ".." in device.container_path.split("/"):
            raise InvalidInput(f"{field}.container_path: {device.container_path[:64]!r} is not a plain absolute path")
        if not device.host_path.startswith("/"):
            raise InvalidInput(f"{field}.host_path: {device.host_path[:64]!r} is not an absolute path")
        try:
            source = Path(os.path.realpath(device.host_path, strict=True))
        except OSError as error:
            raise InvalidInput(f"{field}.host_path: {device.host_path!r}: {error.strerror}") from error
        nodes = list(_nodes(source, device.container_path, device.permissions))
        if not nodes or len(nodes) > _DEVICES_LIMIT:
            raise InvalidInput(f"{field}.host_path: {device.host_path!r} is not a device, nor a folder of some")
        found.update((node.path, node) for node in nodes)
    return tuple(found.values())


def _nodes(source: Path, path: str, permissions: str, skip: frozenset[str] = frozenset()) -> Iterator[DeviceNode]:
    """A device node, or all of those in a folder."""
    with suppress(FileNotFoundError):  # a node that went away while /dev was read
        info = source.stat(follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            for name in sorted(os.listdir(source)):
                if name not in skip:
                    yield from _nodes(source / name, f"{path}/{name}", permissions)
        elif kind := _kind(info.st_mode):
            yield DeviceNode(
                path=path, kind=kind, major=os.major(info.st_rdev), minor=os.minor(info.st_rdev),
                mode=stat.S_IMODE(info.st_mode), uid=info.st_uid, gid=info.st_gid, permissions=permissions,
            )  # fmt: skip


def _kind(mode: int) -> Literal["c", "b"] | None:
    if stat.S_ISCHR(mode):
        return "c"
    return "b" if stat.S_ISBLK(mode) else None


def volumes(rootfs: Path, request: CreateRequest) -> tuple[tuple[str, str], ...]:
    """The image's volumes as folders of the container's own root, made where missing.

    Mounted onto themselves they stay writable where the root is read-only, keep what the image put in them, and
    go with the container. Every path is resolved inside the root.
    """
    found = []
    top = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in sorted({"/" + os.path.normpath("/" + volume).lstrip("/") for volume in request.image.volumes}):
            if path == "/" or path == "/proc" or path.startswith(("/proc/", "/sys/", "/dev/")):
                raise InvalidInput(f"image {request.image_name}: Volumes: {path[:64]!r} may not be a volume")
            found.append((path, _folder(top, path, request.image_name)))
    finally:
        os.close(top)
    return tuple(found)


def _folder(top: int, path: str, image: str) -> str:
    """The host's path of a folder inside the root; made where missing."""
    parts = path.strip("/").split("/")
    try:
        for count in range(1, len(parts) + 1):
            parent = syscalls.openat2(
                top, "/".join(parts[: count - 1]) or ".", os.O_PATH | os.O_DIRECTORY, syscalls.RESOLVE_IN_ROOT
            )
            try:
                with suppress(FileExistsError):  # the image has it, or a link to it
                    os.mkdir(parts[count - 1], 0o755, dir_fd=parent)
            finally:
                os.close(parent)
        fd = syscalls.openat2(top, "/".join(parts), os.O_PATH | os.O_DIRECTORY, syscalls.RESOLVE_IN_ROOT)
    except OSError as error:
        raise InvalidInput(f"image {image}: Volumes: {path!r}: {error.strerror}") from error
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
