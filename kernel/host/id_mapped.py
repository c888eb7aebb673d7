"""Id-mapped mounts: detached copies of mounts in which the files' owners are those that a user namespace maps to.

Nothing on disk is changed. Needs CAP_SYS_ADMIN. Not every file system can be mapped.
"""

from __future__ import annotations

import os
from pathlib import Path

from kernel.host import syscalls


def clone(path: Path | str, userns: int, *, recursive: bool, propagation: int = syscalls.MS_PRIVATE) -> int:
    """Return the copy as a descriptor; unless it is attached, the copy vanishes with its descriptor.

    It shares no mount events with its original: unmounting it unmounts nothing else. OSError EINVAL if a file system in
    it cannot be mapped.
    """
    fd = syscalls.open_tree_clone(path, recursive=recursive)
    try:
        syscalls.mount_setattr_idmap(fd, userns, propagation, recursive=recursive, what=str(path))
    except OSError:
        os.close(fd)
        raise
    return fd
