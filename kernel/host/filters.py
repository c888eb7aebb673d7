"""Filters of system calls, compiled into the kernel's form (seccomp(2)). Their owners decide what they allow.

Compiling takes about 10 ms and 2 MB, and needs a library, so a process compiles the filter of a child before it starts
the child.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

import pyseccomp


def compile_filter(rules: pyseccomp.SyscallFilter) -> bytes:
    """Return the kernel's program for a set of rules: struct sock_filter, 8 bytes each."""
    with os.fdopen(os.memfd_create("seccomp", os.MFD_CLOEXEC), "r+b") as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def allow_only(calls: Iterable[str]) -> bytes:
    """Return the program that allows `calls` alone; every other call fails with EPERM."""
    rules = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    for call in calls:
        rules.add_rule(pyseccomp.ALLOW, call)
    return compile_filter(rules)


def exists(call: str) -> bool:
    """Return whether this architecture has a system call."""
    return bool(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, call) >= 0)
