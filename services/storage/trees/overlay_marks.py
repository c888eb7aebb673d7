"""The marks of overlayfs for deleted files: a whiteout is a character device 0:0, an opaque folder has an attribute.

Used by the storage worker and its children. Linux Documentation/filesystems/overlayfs.rst, "whiteouts and opaque
directories".
"""

from __future__ import annotations

import errno
import os
import stat

_OPAQUE = "trusted.overlay.opaque"
_NO_ATTRIBUTE = frozenset({errno.ENODATA, errno.ENOTSUP})


def is_whiteout(status: os.stat_result) -> bool:
    """Return whether this is a whiteout."""
    return stat.S_ISCHR(status.st_mode) and not status.st_rdev


def is_opaque(folder: int) -> bool:
    """Return whether an open folder hides all that the layers below have in it."""
    try:
        return os.getxattr(folder, _OPAQUE) == b"y"
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTE:
            raise
        return False


def make_opaque(folder: int) -> None:
    """Let an open folder hide all that the layers below have in it. Needs CAP_SYS_ADMIN."""
    os.setxattr(folder, _OPAQUE, b"y")
