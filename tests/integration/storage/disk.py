"""A small ext4 of its own in a file, for tests that fill it, or take it away from under the worker."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness import host

_FS_IOC_SHUTDOWN = 0x8004587D
_NOLOGFLUSH = 2


class Disk:
    """The file and where it is mounted."""

    def __init__(self, image: Path, mounted: Path, options: str) -> None:
        self._image = image
        self._options = options
        self.mounted = mounted

    def mount(self) -> None:
        subprocess.run(
            ["mount", "-o", f"loop{self._options}", str(self._image), str(self.mounted)],
            check=True,
            capture_output=True,
        )

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.mounted)], check=False, capture_output=True)

    def lose_power(self) -> None:
        """Nothing that was not written back comes to the disk any more."""
        fd = os.open(self.mounted, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _FS_IOC_SHUTDOWN, struct.pack("I", _NOLOGFLUSH))
        finally:
            os.close(fd)

    def boot(self) -> None:
        """Mount what came to the disk."""
        subprocess.run(["umount", str(self.mounted)], check=True, capture_output=True)
        # A container that is being made elsewhere may have a copy of all mounts for a moment, and with it the old one.
        host.until("nobody has the disk mounted any more", self._is_free)
        self.mount()

    def _is_free(self) -> bool:
        return not host.run("losetup", "--associated", str(self._image))

    def used(self) -> tuple[int, int]:
        """Blocks and inodes in use."""
        status = os.statvfs(self.mounted)
        return status.f_blocks - status.f_bfree, status.f_files - status.f_ffree


@contextmanager
def small_disk(folder: Path, megabytes: int, *options: str, mount: str = "") -> Iterator[Disk]:
    """One of a size; `options` are mkfs.ext4's, `mount` are further ones to mount it with."""
    image, mounted = folder / "disk", folder / "mounted"
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", *options, str(image)], check=True, capture_output=True)
    mounted.mkdir()
    disk = Disk(image, mounted, mount)
    disk.mount()
    try:
        yield disk
    finally:
        disk.unmount()
