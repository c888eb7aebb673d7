"""Plain places for what the OCI runtime mounts in every container: an image's links there lead it nowhere.

An image may have `/dev` or `/etc/hosts` as a link, and OCI runtimes have followed such links out of the container more
than once (CVE-2019-19921, CVE-2023-27561, CVE-2023-28642). So where an image has one of them and it is no plain folder
or file, that is what the container gets instead, an empty one. No link is missed: something is mounted in its place.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from kernel.host import syscalls
from services.storage.roots.merged_view import NOTHING, Layers

FOLDERS = (b"dev", b"proc", b"sys", b"etc")
FILES = (b"etc/hosts", b"etc/hostname", b"etc/resolv.conf")
_PLAIN = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS


def plan(layers: Layers) -> tuple[bytes, ...]:
    """The paths that the layers together have otherwise, folders first."""
    folders = tuple(path for path in FOLDERS if not _fits(layers.shown(path), stat.S_IFDIR))
    if b"etc" in folders:  # and then nothing is in it
        return folders
    # A folder where a file belongs leads nowhere: mounting a file on it is refused.
    return folders + tuple(path for path in FILES if not _fits(layers.shown(path), stat.S_IFREG, stat.S_IFDIR))


def _fits(mode: int, *kinds: int) -> bool:
    return mode == NOTHING or stat.S_IFMT(mode) in kinds


def apply(root: int, paths: tuple[bytes, ...]) -> None:
    """Make the planned paths plain below `root`, where the layers are merged."""
    for path in paths:
        parent, _, name = path.rpartition(b"/")
        folder = syscalls.openat2(root, os.fsdecode(parent or b"."), os.O_RDONLY | os.O_DIRECTORY, _PLAIN)
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
