"""Makes the volumes that an image declares (image-spec, config.md, `Volumes`) in a container's own root.

Run by the runtime worker. Each is a folder of the root, which `spec.oci_mounts` has mounted onto itself: so it stays
writable if the root is read-only, keeps what the image put into it, and is removed with the container.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from kernel.contracts.runtime import CreateRequest
from kernel.errors import InvalidInput
from kernel.host import syscalls


def make(rootfs: Path, request: CreateRequest, owner: tuple[int, int] = (0, 0)) -> tuple[tuple[str, str], ...]:
    """Return path in the container and source of each volume, and make those that the image's layers do not have.

    `rootfs`: the container's root. `owner`: user and group of the folders that are made. Every path is resolved inside
    the root. InvalidInput for a path that may not be a volume.
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
    """Return the host's path of a folder inside the root; it is made if it is missing."""
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
