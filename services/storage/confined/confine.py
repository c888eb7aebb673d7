"""Drops the privileges of a child (of an unpack, check, archive or verdict) before it reads a hostile byte.

Runs in those children only, single-threaded, after their imports. Afterwards the root directory is the folder that the
child works on (or an empty one), there is no network, and only the capabilities named are left. None of it can be
undone. It imports the standard library and system calls alone, so that a child starts quickly.
"""

from __future__ import annotations

import os
import resource
import signal

from kernel.host import bounding, syscalls

CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP = 0, 1, 3, 4, 27, 31
"""Numbers of capabilities (linux/capability.h)."""
UNTAR_CAPABILITIES = sum(1 << bit for bit in (CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP))
VERIFY_CAPABILITIES = 1 << DAC_OVERRIDE

_MEMORY = 1 << 30
"""Bytes of address space."""
_DESCRIPTORS = 64


def enter(*, empty: bool, read_only: bool = False) -> None:
    """Make the working directory, or an empty folder in its place, the root of a mount namespace without anything else.

    It is done by pivot_root(2) and not by chroot(2): afterwards no descriptor or directory of this process leads to
    the host's tree. A network namespace without any interface is entered too.
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
    """Keep only `capabilities` (a mask) and the system calls of the compiled filter, and die when the parent dies.

    The worker has no SETPCAP, so its children cannot cut their bounding set and keep it: with no_new_privs and without
    execve it can give them nothing. Started with SETPCAP, they cut it as well.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
    bounding.cut(capabilities, required=False)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    syscalls.capset(capabilities, capabilities, 0)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    syscalls.seccomp_filter(seccomp)
