"""The child that produces a layer's tar once more: headers from the skeleton, contents from the files, all compared.

Started by the storage worker as `python -I -m services.storage.tar.verify FILTER`, with the layer's folder as working
directory, which becomes its root, read-only; the skeleton on standard input, the tar on standard output. The bytes
that it writes are not trusted: the worker hashes them. Owners, modes, links, devices and attributes are compared here.
Answer on standard error, as JSON: `Found`, or the kind and message of an error.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import NamedTuple

from kernel.errors import Corrupt
from kernel.formats.tar_header import Kind
from services.storage.confined import answer, confine
from services.storage.tar.reader import Entry, entries
from services.storage.tar.skeleton import Rebuilt
from services.storage.tar.whiteout import Action, Operation, decide, keeps_xattr, locate
from services.storage.trees import layer_size, within

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FORMS = {
    Kind.FILE: stat.S_IFREG,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.CHARACTER: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.FIFO: stat.S_IFIFO,
}


class Found(NamedTuple):
    """The content of the layer. `opaque`: the directories that must have the overlay's mark, spelled as by `untar`."""

    inodes: int
    opaque: list[str]


class Examination:
    """One layer, below the open directory `root`, compared with its own tar."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._folders: dict[bytes, Entry] = {}
        self._opaque: set[bytes] = set()
        self._needless: set[bytes] = set()

    def run(self, source: Rebuilt) -> Found:
        """Write the tar, and compare every entry with its file. Corrupt if one differs."""
        for entry in entries(source):
            operation = decide(entry)
            try:
                self._compare(operation, entry, source)
            except OSError as error:
                raise Corrupt(f"{entry.path!r}: {error.strerror}") from error
        source.drain()
        for entry in self._folders.values():
            self._compare_folder(entry)
        for path in self._needless:
            if path.rpartition(b"/")[0] not in self._opaque:
                raise Corrupt(f"{path!r} is not hidden any more")
        inodes = layer_size.count(self._root)[1]
        return Found(inodes, [path.decode("latin-1") for path in sorted(self._opaque)])

    def _compare(self, operation: Operation, entry: Entry, source: Rebuilt) -> None:
        if operation.action is Action.SKIP:
            return
        if operation.action is Action.OPAQUE:
            self._opaque.add(operation.parent)
            return
        if operation.action is Action.MAKE and entry.kind is Kind.DIRECTORY:
            self._folders[operation.path] = entry  # the last one of a path counts
            return
        parent = within.open_in_root(self._root, operation.parent)
        try:
            if operation.action is Action.HIDE:
                self._compare_whiteout(parent, operation)
            elif entry.kind is Kind.FILE:
                self._compare_file(parent, operation.name, entry, source)
            elif entry.kind is Kind.HARD_LINK:
                self._compare_hard_link(parent, operation.name, entry)
            else:
                _compare_status(os.lstat(operation.name, dir_fd=parent), entry)
                if entry.kind is Kind.SYMLINK and os.readlink(operation.name, dir_fd=parent) != entry.link:
                    raise Corrupt(f"{entry.path!r} leads elsewhere")
        finally:
            os.close(parent)

    def _compare_whiteout(self, parent: int, operation: Operation) -> None:
        try:
            status = os.lstat(operation.name, dir_fd=parent)
        except FileNotFoundError:
            self._needless.add(operation.path)  # right only in an opaque directory, which is known at the end
            return
        if stat.S_ISDIR(status.st_mode):  # the layer has it as well, so it hides by its mark
            self._opaque.add(operation.path)

    def _compare_file(self, parent: int, name: bytes, entry: Entry, source: Rebuilt) -> None:
        fd = os.open(name, _READ, dir_fd=parent)
        try:
            status = os.fstat(fd)
            _compare_status(status, entry)
            if status.st_size != entry.size:
                raise Corrupt(f"{entry.path!r} has {status.st_size} bytes instead of {entry.size}")
            _compare_xattrs(fd, entry)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # so that the disk is read, not the page cache
            source.copy_from(fd, entry.size)
        finally:
            os.close(fd)

    def _compare_hard_link(self, parent: int, name: bytes, entry: Entry) -> None:
        target_parent, target_name = locate(entry.link)
        source = within.open_in_root(self._root, target_parent)
        try:
            same = os.path.samestat(os.lstat(target_name, dir_fd=source), os.lstat(name, dir_fd=parent))
        finally:
            os.close(source)
        if not same:
            raise Corrupt(f"{entry.path!r} is no link to {entry.link!r}")

    def _compare_folder(self, entry: Entry) -> None:
        parent, name = locate(entry.path)
        path = b"/".join(part for part in (parent, name) if part)
        try:
            fd = within.open_in_root(self._root, path, _READ | os.O_DIRECTORY)
            try:
                _compare_status(os.fstat(fd), entry)
                _compare_xattrs(fd, entry)
            finally:
                os.close(fd)
        except OSError as error:
            raise Corrupt(f"{entry.path!r}: {error.strerror}") from error


def _compare_status(status: os.stat_result, entry: Entry) -> None:
    if stat.S_IFMT(status.st_mode) != _FORMS[entry.kind]:
        raise Corrupt(f"{entry.path!r} is no {entry.kind.value}")
    if (status.st_uid, status.st_gid) != (entry.uid, entry.gid):
        raise Corrupt(f"{entry.path!r} has another owner")
    if entry.kind is not Kind.SYMLINK and stat.S_IMODE(status.st_mode) != entry.mode:
        raise Corrupt(f"{entry.path!r} has another mode")
    if entry.kind in (Kind.CHARACTER, Kind.BLOCK) and status.st_rdev != os.makedev(entry.major, entry.minor):
        raise Corrupt(f"{entry.path!r} is another device")


def _compare_xattrs(fd: int, entry: Entry) -> None:
    for name, value in entry.xattrs:
        capability = name == b"security.capability"
        if not keeps_xattr(name, value, entry.path) or (capability and entry.kind is not Kind.FILE):
            continue
        try:
            if os.getxattr(fd, name) != value:
                raise Corrupt(f"{entry.path!r} has another {os.fsdecode(name)}")
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise


def main() -> None:
    """Run the child from its start to its end."""
    seccomp = bytes.fromhex(sys.argv[1])
    confine.enter(empty=False, read_only=True)
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    confine.drop(confine.VERIFY_CAPABILITIES, seccomp)
    # A skeleton that cannot be read is damage of the layer too.
    answer.finish(2, lambda: Examination(root).run(Rebuilt(0, 1))._asdict(), "layer's folder", kind=Corrupt)


if __name__ == "__main__":
    main()
