"""The capability bounding set of the calling thread (capabilities(7)), cut down in one place.

It imports system calls alone, so that a child that confines itself starts quickly.
"""

from __future__ import annotations

import errno

from kernel.host import syscalls

_LAST_KNOWN = 40
"""CAP_CHECKPOINT_RESTORE (linux/capability.h of Linux 5.9); a kernel may have more, up to 63."""


def cut(keep: int, *, required: bool) -> None:
    """Drop every capability that is not in the mask `keep` from the bounding set, permanently.

    This needs CAP_SETPCAP. Without it OSError EPERM is raised if `required`; else nothing is dropped: for a thread that
    has no_new_privs and may not execve, the bounding set is only an additional safeguard.
    """
    for bit in range(64):
        if keep >> bit & 1:
            continue
        try:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, bit)
        except OSError as error:
            if error.errno == errno.EINVAL and bit > _LAST_KNOWN:  # beyond the kernel's last capability
                return
            if error.errno == errno.EPERM and not required:
                return
            raise
