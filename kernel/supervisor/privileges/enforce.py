"""The step that gives this process the privileges of one row of the table, and no others.

It runs in the forked child, after its entry module is imported (an import after Landlock may fail) and before any
thread starts (each step is for the calling thread; threads inherit). The row decides everything. If a step fails, the
process ends, because no worker may run with more privileges than its row. Only Landlock is left out if the kernel has
none.
"""

from __future__ import annotations

import errno
import importlib.util
import logging
import os
import pwd
import resource
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

import pyseccomp

from kernel.config.sections import Config
from kernel.errors import FailedPrecondition
from kernel.host import bounding, filters, syscalls
from kernel.supervisor.privileges.workers import Filter, Landlock, Net, Row, Sockets

_LOG = logging.getLogger(__name__)
_PACKAGES = ("kernel", "services")
"""The packages of crisp. Some of their modules are imported late, when they are needed."""

# linux/landlock.h; each with the first version of the kernel's interface that has it
_FS_READ_FILE, _FS_READ_DIR = 1 << 2, 1 << 3
_FS_EXECUTE, _FS_MAKE_CHAR, _FS_MAKE_BLOCK = 1 << 0, 1 << 6, 1 << 11
_FS_FILE = 1 << 1 | _FS_READ_FILE | 1 << 14 | 1 << 15  # write, read, truncate, ioctl of a device
_FS_BY_ABI = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}
_NET_BIND_TCP, _NET_CONNECT_TCP, _NET_ABI = 1, 2, 4
_SCOPE_ABSTRACT_UNIX, _SCOPE_SIGNAL, _SCOPE_ABI = 1, 2, 6

_NEVER = (
    # other processes' memory and descriptors
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp",
    # large and often broken parts of the kernel
    "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "keyctl",
    "add_key", "request_key", "vmsplice", "modify_ldt", "open_by_handle_at",
    # the machine as a whole
    "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff",
    "acct", "quotactl", "quotactl_fd", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "iopl", "ioperm",
    "syslog", "vhangup", "personality", "nfsservctl", "lookup_dcookie", "uselib",
)  # fmt: skip
_MOUNTS = (
    "mount", "umount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount",
    "fspick", "mount_setattr",
)  # fmt: skip
_CLONE_NEW = (
    syscalls.CLONE_NEWNS, syscalls.CLONE_NEWCGROUP, syscalls.CLONE_NEWUTS, syscalls.CLONE_NEWIPC,
    syscalls.CLONE_NEWPID, syscalls.CLONE_NEWNET, syscalls.CLONE_NEWUSER,
)  # fmt: skip
_HIGHEST_FAMILY = 64


def apply(row: Row, config: Config) -> None:
    """Take on the privileges of `row`. This cannot be undone."""
    user = account(row.user(config))
    if row.memory is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (row.memory, row.memory))
    if row.net is Net.EMPTY:
        syscalls.unshare(syscalls.CLONE_NEWNET)
    if row.no_new_privs:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    if row.landlock:
        _landlock(row.landlock, config)
    if not row.bounding:
        bounding.cut(row.capability_mask or 0, required=True)
    if row.capabilities is not None:
        os.setgroups([])
    if user.pw_uid:
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    mask = row.capability_mask
    if mask is not None:
        syscalls.capset(mask, mask, 0)
    if row.seccomp:
        syscalls.seccomp_filter(_program(row.seccomp))


def prepare(rows: Iterable[Row]) -> None:
    """Compile the filters of all rows, for children to inherit."""
    for row in rows:
        if row.seccomp:
            _program(row.seccomp)


def account(name: str) -> pwd.struct_passwd:
    """Return a system user; FailedPrecondition, with the command that makes it, if there is none."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        line = f"useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {name}"
        raise FailedPrecondition(f"there is no user {name!r} to run a worker as", hint=f"make it: {line}") from None


def _landlock(rules: Landlock, config: Config) -> None:
    try:
        abi = syscalls.landlock_abi()
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        _LOG.warning("this kernel has no Landlock: the process is held by its user and its seccomp filter only")
        return
    files = rules.files
    handled = _FS_BY_ABI[min(abi, max(_FS_BY_ABI))] if files else 0
    net = (0 if rules.bind else _NET_BIND_TCP) | (0 if rules.connect else _NET_CONNECT_TCP) if abi >= _NET_ABI else 0
    scoped = (_SCOPE_ABSTRACT_UNIX | _SCOPE_SIGNAL) if abi >= _SCOPE_ABI else 0
    if not handled | net | scoped:
        return  # a kernel that knows neither network rules nor scopes, and a row without files
    ruleset = syscalls.landlock_create_ruleset(handled, net, scoped)
    try:
        if files:
            _allow(ruleset, (*files.readable(config), *_python_tree()), handled & (_FS_READ_FILE | _FS_READ_DIR))
            _allow(ruleset, files.writable(config), handled & ~(_FS_EXECUTE | _FS_MAKE_CHAR | _FS_MAKE_BLOCK))
        syscalls.landlock_restrict_self(ruleset)
    finally:
        os.close(ruleset)


def _python_tree() -> tuple[Path, ...]:
    """Return the folders from which modules are imported, crisp's own among them.

    A checkout that is installed in place is in none of Python's folders: an import hook finds its packages.
    """
    packages = (spec for name in _PACKAGES if (spec := importlib.util.find_spec(name)) is not None)
    own = {folder for spec in packages for folder in spec.submodule_search_locations or ()}
    return tuple(Path(entry) for entry in {sys.prefix, sys.base_prefix, *sys.path, *own} if entry)


def _allow(ruleset: int, paths: Iterable[Path], access: int) -> None:
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):  # a host need not have all of them
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                folder = stat.S_ISDIR(os.fstat(fd).st_mode)
                syscalls.landlock_add_path(ruleset, fd, access if folder else access & _FS_FILE, str(path))
            finally:
                os.close(fd)


@cache
def _program(rules: Filter) -> bytes:
    """Return the filter in the kernel's form. Compiling takes 10 ms and 2 MB, so the spawner does it before it
    forks."""
    refuse = pyseccomp.ERRNO(errno.EPERM)
    wanted = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    names = [*_NEVER]
    if not rules.mounts:
        names += _MOUNTS
    if not rules.execve:
        names += ["execve", "execveat"]
    if not rules.namespaces:
        names += ["unshare", "setns"]
        for flag in _CLONE_NEW:
            wanted.add_rule(refuse, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
        # The flags of clone3 lie behind a pointer, which no filter can check; the C library then uses clone.
        wanted.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    for name in names:
        if filters.exists(name):  # not every architecture has all of these calls
            wanted.add_rule(refuse, name)
    if rules.sockets is not Sockets.ANY:
        for family in range(_HIGHEST_FAMILY):
            if family not in rules.sockets.value:
                wanted.add_rule(refuse, "socket", pyseccomp.Arg(0, pyseccomp.EQ, family))
        wanted.add_rule(refuse, "socket", pyseccomp.Arg(0, pyseccomp.GE, _HIGHEST_FAMILY))
    return filters.compile_filter(wanted)
