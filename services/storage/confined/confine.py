"""What the children of an unpack, and that of a check, give up before they read a byte of a layer.

Runs in those children only, single-threaded, after their imports: then the root directory is the layer's own folder
(or nothing at all), there is no network, and only the capabilities named are left. Nothing can be taken back.
It imports nothing but the standard library and system calls, so that a child starts quickly.
"""

from __future__ import annotations

import errno
import os
import resource
import signal

from kernel.host import syscalls

CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP = 0, 1, 3, 4, 27, 31
"""linux/capability.h"""
UNTAR_CAPABILITIES = sum(1 << bit for bit in (CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP))
VERIFY_CAPABILITIES = 1 << DAC_OVERRIDE

_MEMORY = 1 << 30
_DESCRIPTORS = 64
_LAST_CAPABILITY = 63


def enter(*, empty: bool, read_only: bool = False) -> None:
    """Make the working directory the root of a mount namespace that has nothing else; or an empty one in its place.

    pivot_root and not chroot: afterwards no descriptor or directory of this process leads to the host's tree.
    """
    here = os.getcwd()
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    harmless = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    if empty:
        syscalls.mount("tmpfs", here, "tmpfs", harmless | syscalls.MS_RDONLY, "size=4k,nr_inodes=2")
    else:
        syscalls.mount(here, here, flags=syscalls.MS_BIND)
        closed = syscalls.MS_RDONLY if read_only else 0
        syscalls.mount("none", here, flags=syscalls.MS_REMOUNT | syscalls.MS_BIND | harmless | closed)
    os.chdir(here)
    syscalls.pivot_root(".", ".")
    syscalls.umount2(".", syscalls.MNT_DETACH)
    os.chdir("/")


def drop(capabilities: int, seccomp: bytes) -> None:
    """Keep `capabilities` (a mask) and what the compiled filter allows; end with the parent."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
    _cut_bounding_set(capabilities)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    syscalls.capset(capabilities, capabilities, 0)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    syscalls.seccomp_filter(seccomp)


def _cut_bounding_set(keep: int) -> None:
    """With no_new_privs and no execve this is the third lock on one door: without SETPCAP it stays open."""
    for bit in range(_LAST_CAPABILITY + 1):
        if keep >> bit & 1:
            continue
        try:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, bit)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EPERM):  # beyond the kernel's last one; no SETPCAP
                return
            raise
