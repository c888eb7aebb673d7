"""The system calls that the children of an unpack, check, archive or verdict may make, each with its reason.

Names only: the storage worker compiles a list once (`kernel.host.filters`) and hands it to the child, which installs
it after its imports. Every other call fails with EPERM: there is no execve, fork, socket, signal to others, mount or
namespace in any list. A call that changes files is given by directory descriptor, as all of crisp's code gives it; the
forms that take a path alone are left out.
"""

from __future__ import annotations

from collections.abc import Mapping

_PYTHON: Mapping[str, str] = {
    # The bytes that go through: standard input and output, and files that are open already.
    "read": "os.read, and the interpreter's own files",
    "readv": "os.readv into the one buffer of a pipe's reader",
    "write": "os.write",
    "writev": "a library's message on standard error as it aborts",
    "close": "every descriptor",
    "lseek": "open(0) looks up its position; scandir starts at the beginning of a folder",
    # Properties of a descriptor.
    "fstat": "os.fstat, and open(0), which takes the size of its buffer from it",
    "newfstatat": "fstat as the C library makes it since glibc 2.33; os.lstat below a directory",
    "ioctl": "open(0) finds out whether it is a terminal",
    "fcntl": "os.dup and os.scandir copy a descriptor that is closed on exec",
    # Memory.
    "brk": "malloc",
    "mmap": "malloc of large blocks, buffers of the decompressors",
    "munmap": "the same, given back",
    "mremap": "realloc of large blocks",
    "mprotect": "malloc grows the heap of a second thread",
    "madvise": "malloc gives pages back",
    # Threads: the interpreter's lock, and locks of the libraries.
    "futex": "a lock that waits",
    "sched_yield": "a lock that spins before it waits",
    "clock_nanosleep": "a lock that backs off",
    "gettid": "the C library's abort sends its signal to this thread",
    "getpid": "the same",
    # Time and random numbers.
    "clock_gettime": "if the vDSO cannot answer",
    "getrandom": "names of temporary folders; seeds of hash tables",
    # Signals: how the interpreter, and a Rust library, prepare for theirs, and return from one.
    "rt_sigaction": "handlers are put back at the end",
    "rt_sigprocmask": "the same, and abort",
    "rt_sigreturn": "a handler returns",
    "sigaltstack": "the stack for such a handler",
    "restart_syscall": "a wait goes on after SIGSTOP and SIGCONT",
    # The end.
    "exit": "a thread ends",
    "exit_group": "os._exit",
}
"""Calls that the interpreter, the C library and the decompressors need for any work."""

_LOOKING: Mapping[str, str] = {
    "openat": "os.open, with or without a directory",
    "openat2": "a path is resolved inside the root",
    "statx": "fstat and lstat, on machines whose C library makes them so",
    "readlinkat": "os.readlink of a symbolic link",
    "getdents64": "os.scandir counts what is there, and lists what is to be removed",
}
"""Calls by which a child looks up files below its root."""

_MAKING: Mapping[str, str] = {
    # One call for each kind of entry, on a single name below an open directory.
    "mkdirat": "a directory",
    "mknodat": "a device, a fifo, or a whiteout",
    "symlinkat": "a symbolic link",
    "linkat": "a hard link",
    # Contents of a file.
    "splice": "from the pipe to the file, inside the kernel",
    "sync_file_range": "a large file is sent on to the disk at once",
    # The metadata of an entry.
    "fchown": "owner of an open file or directory",
    "fchownat": "owner of a link or a device",
    "fchmod": "mode of an open file or directory",
    "fchmodat": "mode of a device or fifo",
    "utimensat": "time",
    "fsetxattr": "file capabilities and user.* attributes",
    # A later entry of a tar takes the place of an earlier one.
    "unlinkat": "a file or an empty directory goes",
    "renameat": "directories are moved up before they are emptied, so that depth does not matter",
    "renameat2": "the same, on machines without renameat",
}
"""Calls by which an unpack makes files below its root."""

_COMPARING: Mapping[str, str] = {
    "fgetxattr": "an attribute is compared with the tar's",
    "fadvise64": "the disk is read, not what memory still has of the file",
}
"""Calls that a check needs beside those for looking up files."""

_FILLING: Mapping[str, str] = {
    "openat": "a part of a checkpoint is made",
    "splice": "its contents, inside the kernel",
}
"""Calls that the reader of an archive needs: it makes plain files by known names, in folders that exist."""

INFLATE = tuple(_PYTHON)
JUDGE = tuple(_PYTHON)
UNTAR = (*_PYTHON, *_LOOKING, *_MAKING)
VERIFY = (*_PYTHON, *_LOOKING, *_COMPARING)
UNARCHIVE = (*_PYTHON, *_FILLING)
