"""Id-mapped mounts: a detached copy of a mount in which files belong to whom a user namespace maps their owners to.

Nothing on disk is changed. Wants CAP_SYS_ADMIN; whether it can be done is the file system's to say.
"""

from __future__ import annotations

import os
from pathlib import Path

from kernel.host import syscalls


def clone(path: Path | str, userns: int, *, recursive: bool, propagation: int = syscalls.MS_PRIVATE) -> int:
    """The copy: a descriptor with which it vanishes unless it is attached. OSError EINVAL where a file system in it
    cannot be mapped. It shares no mount events with what it is a copy of: unmounting it unmounts nothing else."""
    fd = syscalls.open_tree_clone(path, recursive=recursive)
    try:
        syscalls.mount_setattr_idmap(fd, userns, propagation, recursive=recursive, what=str(path))
    except OSError:
        os.close(fd)
        raise
    return fd
