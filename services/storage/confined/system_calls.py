"""The system calls that children which unpack, check or judge may make: lists, compiled once by the worker.

All others answer EPERM: no execve, no fork, no socket, no signal to others, no mount, no namespace.
"""

from __future__ import annotations

import errno
import tempfile

import pyseccomp

_PYTHON = (
    "read", "readv", "write", "writev", "close", "lseek", "fstat", "newfstatat", "ioctl", "fcntl",
    "mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "futex", "getrandom", "sched_yield",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall",
    "clock_gettime", "clock_nanosleep", "gettid", "getpid", "exit", "exit_group",
)  # fmt: skip
INFLATE = _PYTHON
JUDGE = _PYTHON
UNTAR = (
    *_PYTHON,
    "openat", "openat2", "mkdirat", "mknodat", "symlinkat", "linkat", "unlinkat", "renameat2", "renameat", "rename",
    "mkdir", "mknod", "symlink", "link", "unlink", "rmdir", "open", "stat", "lstat", "statx", "access", "faccessat",
    "chown", "lchown", "fchown", "fchownat", "chmod", "fchmod", "fchmodat", "utimensat",
    "setxattr", "lsetxattr", "fsetxattr", "getdents64", "splice", "sync_file_range", "ftruncate", "dup",
    "readlink", "readlinkat", "getcwd", "chdir", "fchdir",
)  # fmt: skip
VERIFY = (
    *_PYTHON,
    "openat", "openat2", "open", "statx", "lstat", "stat", "readlinkat", "readlink", "getxattr", "lgetxattr",
    "fgetxattr", "fadvise64", "getdents64", "dup",
)  # fmt: skip


def compile_filter(calls: tuple[str, ...]) -> bytes:
    """The kernel's program (struct sock_filter, 8 bytes each) that allows `calls` alone."""
    rules = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    for call in calls:
        rules.add_rule(pyseccomp.ALLOW, call)
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()
