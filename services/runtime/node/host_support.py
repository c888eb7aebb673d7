"""What the host offers, and where an image's volumes lie in a container's root. Run by the runtime worker."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from kernel.contracts.runtime import CreateRequest
from kernel.errors import InvalidInput
from kernel.host import syscalls
from services.runtime.cgroups.hierarchies import Hierarchies
from services.runtime.spec import limits
from services.runtime.spec.inputs import Host
from services.runtime.spec.security_context import capabilities

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
        cpus=_there("cpu", found),
        mems=_there("node", found),
    )


def _there(kind: str, found: Hierarchies) -> frozenset[int] | None:
    """CPUs or memory nodes that a cpuset may name: cgroup v1 takes only those that are on."""
    with suppress(OSError):  # a kernel without NUMA tells of no nodes
        return limits.numbers(
            Path(f"/sys/devices/system/{kind}/{'possible' if found.only_v2 else 'online'}").read_text()
        )
    return None


def host_name() -> str:
    """The host's own name."""
    return socket.gethostname()


def resolv_conf() -> bytes:
    """The host's resolv.conf, for pods that name no DNS servers; empty where there is none."""
    try:
        return Path("/etc/resolv.conf").read_bytes()
    except OSError:  # none: the pod has none either
        return b""


def volumes(rootfs: Path, request: CreateRequest, owner: tuple[int, int] = (0, 0)) -> tuple[tuple[str, str], ...]:
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
            found.append((path, _folder(top, path, request.image_name, owner)))
    finally:
        os.close(top)
    return tuple(found)


def _folder(top: int, path: str, image: str, owner: tuple[int, int]) -> str:
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
                    os.chown(parts[count - 1], *owner, dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(parent)
        fd = syscalls.openat2(top, "/".join(parts), os.O_PATH | os.O_DIRECTORY, syscalls.RESOLVE_IN_ROOT)
    except OSError as error:
        raise InvalidInput(f"image {image}: Volumes: {path!r}: {error.strerror}") from error
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
