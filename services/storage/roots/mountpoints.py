"""Plain folders and files at the OCI runtime's mount points in every container, so that no image's link misleads it.

Runs in threads of the storage worker. An image may have `/dev` or `/etc/hosts` as a link, and OCI runtimes have
followed such links out of the container more than once (CVE-2019-19921, CVE-2023-27561, CVE-2023-28642). So if an image
has one of these paths as anything but a plain folder or file, the container gets an empty plain one instead. Nothing
is lost: something is mounted over it.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from services.storage.roots.merged_view import NOTHING, Layers
from services.storage.trees import within

FOLDERS = (b"dev", b"proc", b"sys", b"etc")
FILES = (b"etc/hosts", b"etc/hostname", b"etc/resolv.conf")


def plan(layers: Layers) -> tuple[bytes, ...]:
    """Return the paths at which the merged view has something that is not plain, folders first."""
    folders = tuple(path for path in FOLDERS if not _fits(layers.shown(path), stat.S_IFDIR))
    if b"etc" in folders:  # then the new one has nothing in it
        return folders
    # A folder in a file's place leads nowhere: the kernel refuses to mount a file on it.
    return folders + tuple(path for path in FILES if not _fits(layers.shown(path), stat.S_IFREG, stat.S_IFDIR))


def _fits(mode: int, *kinds: int) -> bool:
    return mode == NOTHING or stat.S_IFMT(mode) in kinds


def apply(root: int, paths: tuple[bytes, ...]) -> None:
    """Make the planned paths plain below `root`, the open root of the merged layers."""
    for path in paths:
        parent, _, name = path.rpartition(b"/")
        folder = within.open_plain(root, parent)
        try:
            with suppress(FileNotFoundError):  # done before a crash
                os.unlink(name, dir_fd=folder)
            if path in FOLDERS:
                os.mkdir(name, 0o755, dir_fd=folder)
                os.chmod(name, 0o755, dir_fd=folder)
            else:
                fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=folder)
                os.fchmod(fd, 0o644)
                os.close(fd)
        finally:
            os.close(folder)
