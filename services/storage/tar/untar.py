"""The child that makes a layer's files out of its tar. It reads the tar on standard input, writes into `/` only.

Started by the storage worker as `python -I -m services.storage.tar.untar MAX_ENTRIES FILTER SKELETON` with the layer's
folder as working directory, which becomes its root, and a descriptor for the layer's skeleton. Even so every parent is
opened by openat2 within the root, every name is a single component below such a descriptor, and nothing is ever
followed or changed through a name's last component.
The worker hashes the same bytes before they come here; it renames the layer into place only if they were right.
Answer on standard output, as JSON: a `Report` and whether the skeleton is whole, or the kind and message of an error.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
from collections.abc import Callable
from typing import NamedTuple

from kernel.errors import CrispError, Internal, InvalidInput, ResourceExhausted
from kernel.host import syscalls
from services.storage.confined import confine
from services.storage.tar.pipe_source import Stream
from services.storage.tar.reader import Entry, Kind, entries
from services.storage.tar.skeleton import Writer
from services.storage.tar.whiteout import Action, Operation, decide, keeps_xattr, locate
from services.storage.trees.removal import empty

REFUSED = 3
"""The exit status with which the answer is an error."""
MAX_NOTED = 8 << 20
"""Most bytes of the paths of directories that are implied, or have whiteouts."""
_WRITE_BEHIND = 1 << 20
"""Files of at least this size are sent on to the disk at once, so that the sync at the end is short."""
_SYNC_FILE_RANGE_WRITE = 2
_WITHIN = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
_FOLDER = os.O_DIRECTORY | os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_WRONG = frozenset({
    errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EXDEV, errno.EEXIST, errno.E2BIG, errno.ERANGE,
})  # fmt: skip
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMLINK})


class Report(NamedTuple):
    """What was made. `opaque` lists directories to mark, which takes a capability that the child lacks; a character
    of such a path is a byte."""

    bytes: int
    inodes: int
    root: bool
    """Whether the tar said the mode and owner of the layer's root."""
    opaque: list[str]
    implied: list[str]
    """Directories that only entries below them made, spelled the same way: the tar does not say how they look."""
    hiding: list[str]
    """Directories with whiteouts in them."""
    replaced: bool
    """Whether an entry took an earlier one's place, so that the files are not all that the tar had."""


class Extraction:
    """One layer being made below the directory `root`."""

    def __init__(self, root: int, max_entries: int) -> None:
        self._root = root
        self._left = max_entries
        self._bytes = 0
        self._inodes = 1
        self._noted_bytes = 0
        self._root_said = False
        self._recount = False
        self._opaque: set[bytes] = set()
        self._hidden: set[bytes] = set()
        self._implied: set[bytes] = set()
        self._hiding: set[bytes] = set()
        self._folder_times: dict[bytes, int] = {}
        self._parent_path: bytes | None = None
        self._parent_fd = -1
        self._makers: dict[Kind, Callable[[int, bytes, Entry], None]] = {
            Kind.HARD_LINK: self._make_hard_link,
            Kind.SYMLINK: self._make_symlink,
            Kind.CHARACTER: self._make_node,
            Kind.BLOCK: self._make_node,
            Kind.FIFO: self._make_node,
        }

    def run(self, source: Stream) -> Report:
        """Make everything that the tar says."""
        for entry in entries(source):
            self._left -= 1
            if self._left < 0:
                raise ResourceExhausted(
                    "layer has more entries than allowed", hint="storage.max_layer_entries sets the limit"
                )
            operation = decide(entry)
            try:
                self._perform(operation, entry, source)
            except OSError as error:
                raise _explain(error, entry) from error
        source.drain()
        self._drop_needless_whiteouts()
        self._set_folder_times()
        if self._recount:
            self._bytes, self._inodes = count(self._root)
        return Report(
            self._bytes, self._inodes, self._root_said, _spell(self._opaque), _spell(self._implied),
            _spell(self._hiding - self._opaque), self._recount,
        )  # fmt: skip

    def _perform(self, operation: Operation, entry: Entry, source: Stream) -> None:
        if operation.action is Action.SKIP:
            return
        if operation.action is Action.OPAQUE:
            self._open_parent(operation.parent)
            self._opaque.add(operation.parent)
            return
        parent = self._open_parent(operation.parent)
        path = operation.parent + b"/" + operation.name if operation.parent else operation.name
        if operation.action is Action.HIDE:
            self._hide(parent, operation.name, path)
        elif entry.kind is Kind.DIRECTORY:
            self._make_folder(parent, operation.name, path, entry)
        else:
            self._make(parent, operation, path, entry, source)

    def _make(self, parent: int, operation: Operation, path: bytes, entry: Entry, source: Stream) -> None:
        """Anything but a folder; what this tar made earlier at the place goes first."""
        name = operation.name
        for attempt in (1, 2):
            try:
                if entry.kind is Kind.FILE:
                    self._make_file(parent, name, entry, source)
                else:
                    self._makers[entry.kind](parent, name, entry)
            except FileExistsError:
                if attempt == 2:
                    raise
                if entry.kind is Kind.HARD_LINK and self._is_same(parent, name, entry):
                    return
                self._remove(parent, name, path)
                parent = self._open_parent(operation.parent)
            else:
                break

    def _make_file(self, parent: int, name: bytes, entry: Entry, source: Stream) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            if entry.size:
                source.copy_to(fd, entry.size)
            self._set_metadata(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
            if entry.size >= _WRITE_BEHIND:
                syscalls.sync_file_range(fd, _SYNC_FILE_RANGE_WRITE)
        finally:
            os.close(fd)
        self._inodes += 1
        self._bytes += _blocks(entry.size)

    def _make_folder(self, parent: int, name: bytes, path: bytes, entry: Entry) -> None:
        if not name:
            self._root_said = True
            self._set_metadata(self._root, entry)
        else:
            fd = self._open_or_make_folder(parent, name, path)
            try:
                self._set_metadata(fd, entry)
            finally:
                os.close(fd)
            self._implied.discard(path)
        self._folder_times[path] = entry.mtime_ns

    def _open_or_make_folder(self, parent: int, name: bytes, path: bytes) -> int:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            try:
                return os.open(name, _FOLDER, dir_fd=parent)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
            hidden = path in self._hidden
            self._remove(parent, name, path)
            if hidden:  # first, then made anew: nothing of the layers below shows through
                self._opaque.add(path)
            parent = self._open_parent(path.rpartition(b"/")[0])
            os.mkdir(name, 0o755, dir_fd=parent)
        self._inodes += 1
        self._bytes += 4096
        return os.open(name, _FOLDER, dir_fd=parent)

    def _make_hard_link(self, parent: int, name: bytes, entry: Entry) -> None:
        """Without following the target's last component, and without touching what it links to."""
        target_parent, target_name = locate(entry.link)
        if not target_name:
            raise InvalidInput(f"tar entry {entry.path!r} is a hard link to the layer's root")
        try:
            source = syscalls.openat2(
                self._root, os.fsdecode(target_parent or b"."), os.O_PATH | os.O_DIRECTORY, _WITHIN
            )
        except OSError as error:
            raise InvalidInput(
                f"tar entry {entry.path!r} is a hard link to {entry.link!r}, which is not there"
            ) from error
        try:
            status = os.lstat(target_name, dir_fd=source)
            if stat.S_ISDIR(status.st_mode):
                raise InvalidInput(f"tar entry {entry.path!r} is a hard link to the directory {entry.link!r}")
            if stat.S_ISCHR(status.st_mode) and not status.st_rdev:
                raise InvalidInput(f"tar entry {entry.path!r} is a hard link to {entry.link!r}, which is deleted")
            os.link(target_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError as error:
            raise InvalidInput(
                f"tar entry {entry.path!r} is a hard link to {entry.link!r}, which is not there"
            ) from error
        finally:
            os.close(source)

    def _is_same(self, parent: int, name: bytes, entry: Entry) -> bool:
        """Whether the hard link is there already, or names itself."""
        target_parent, target_name = locate(entry.link)
        with contextlib.suppress(OSError):  # no such target: making the link says so
            source = syscalls.openat2(
                self._root, os.fsdecode(target_parent or b"."), os.O_PATH | os.O_DIRECTORY, _WITHIN
            )
            try:
                return os.path.samestat(os.lstat(target_name, dir_fd=source), os.lstat(name, dir_fd=parent))
            finally:
                os.close(source)
        return False

    def _make_symlink(self, parent: int, name: bytes, entry: Entry) -> None:
        os.symlink(entry.link, name, dir_fd=parent)
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)
        self._inodes += 1

    def _make_node(self, parent: int, name: bytes, entry: Entry) -> None:
        form = {Kind.CHARACTER: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK}.get(entry.kind, stat.S_IFIFO)
        os.mknod(name, form | 0o600, os.makedev(entry.major, entry.minor), dir_fd=parent)
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        os.chmod(name, entry.mode, dir_fd=parent)  # made two lines above: not a link
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)
        self._inodes += 1

    def _hide(self, parent: int, name: bytes, path: bytes) -> None:
        """A whiteout. What this same layer has at the place stays (image-spec, layer.md) and hides as well."""
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                self._opaque.add(path)
            return
        self._hidden.add(path)
        self._note(self._hiding, path.rpartition(b"/")[0])
        self._inodes += 1

    def _drop_needless_whiteouts(self) -> None:
        """An opaque folder hides all that is below: a whiteout in it hides nothing more, and would be seen itself."""
        for path in self._hidden:
            folder, _, name = path.rpartition(b"/")
            if folder not in self._opaque:
                continue
            parent = self._open_parent(folder)
            with contextlib.suppress(FileNotFoundError):  # a link to the folder, and a later entry, may have taken it
                status = os.lstat(name, dir_fd=parent)
                if stat.S_ISCHR(status.st_mode) and not status.st_rdev:
                    os.unlink(name, dir_fd=parent)
                    self._inodes -= 1

    def _note(self, known: set[bytes], path: bytes) -> None:
        """Keep a path for the report."""
        if path not in known:
            self._noted_bytes += len(path)
            if self._noted_bytes > MAX_NOTED:
                raise ResourceExhausted(f"layer has more folders to be kept in mind than allowed, {path!r} is one")
            known.add(path)

    def _set_metadata(self, fd: int, entry: Entry) -> None:
        """Owner first: changing it clears set-user-id bits and file capabilities."""
        os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        for name, value in entry.xattrs:
            if not keeps_xattr(name, value, entry.path):
                continue
            if name == b"security.capability" and entry.kind is not Kind.FILE:
                continue
            try:
                os.setxattr(fd, name, value)
            except OSError as error:
                if error.errno != errno.ENOTSUP or name == b"security.capability":
                    raise

    def _open_parent(self, path: bytes) -> int:
        """A descriptor of the directory `path`, made with its own parents where missing; kept for the next entry."""
        if path == self._parent_path:
            return self._parent_fd
        if not path:
            return self._root
        try:
            fd = syscalls.openat2(self._root, os.fsdecode(path), os.O_PATH | os.O_DIRECTORY, _WITHIN)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
            fd = self._make_parents(path)
        self._forget_parent()
        self._parent_path, self._parent_fd = path, fd
        return fd

    def _make_parents(self, path: bytes) -> int:
        above, _, name = path.rpartition(b"/")
        parent = self._open_parent(above)
        if path not in self._hidden and _exists(parent, name):
            raise InvalidInput(f"tar has entries below {path!r}, which is not a directory")
        fd = self._open_or_make_folder(parent, name, path)
        self._note(self._implied, path)
        return fd

    def _forget_parent(self) -> None:
        if self._parent_fd >= 0:
            os.close(self._parent_fd)
        self._parent_path, self._parent_fd = None, -1

    def _remove(self, parent: int, name: bytes, path: bytes) -> None:
        """Make way. A directory goes with all below it."""
        self._recount = True
        self._hidden.discard(path)
        try:
            os.unlink(name, dir_fd=parent)
            self._opaque.discard(path)  # it was a link to the folder that was meant
        except IsADirectoryError:
            copy = os.open(name, _FOLDER, dir_fd=parent)
            try:
                empty(copy)
            finally:
                os.close(copy)
            os.rmdir(name, dir_fd=parent)
            below = path + b"/"
            for known in (self._opaque, self._hidden, self._implied, self._hiding):
                known.difference_update([other for other in known if other == path or other.startswith(below)])
        self._forget_parent()

    def _set_folder_times(self) -> None:
        self._forget_parent()
        for path, time_ns in self._folder_times.items():
            try:
                fd = syscalls.openat2(self._root, os.fsdecode(path or b"."), _FOLDER, _WITHIN)
            except (FileNotFoundError, NotADirectoryError):
                continue  # replaced by a later entry
            except OSError as error:
                if error.errno == errno.ELOOP:  # the same, by a link
                    continue
                raise
            os.utime(fd, ns=(time_ns, time_ns))
            os.close(fd)


def count(folder: int) -> tuple[int, int]:
    """Bytes and inodes below a directory, itself among them, a file with many names once."""
    size = inodes = 0
    seen: set[int] = set()
    waiting = ["."]
    while waiting:
        path = waiting.pop()
        fd = syscalls.openat2(folder, path, _FOLDER, _WITHIN)
        try:
            inodes += 1
            size += 4096 if path != "." else 0
            with os.scandir(fd) as found:
                for entry in found:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(f"{path}/{entry.name}")
                    elif status.st_nlink == 1 or status.st_ino not in seen:
                        seen.add(status.st_ino)
                        inodes += 1
                        size += _blocks(status.st_size) if stat.S_ISREG(status.st_mode) else 0
        finally:
            os.close(fd)
    return size, inodes


def _spell(paths: set[bytes]) -> list[str]:
    return [path.decode("latin-1") for path in sorted(paths)]


def _exists(parent: int, name: bytes) -> bool:
    try:
        os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return False
    return True


def _blocks(size: int) -> int:
    return -(-size // 4096) * 4096


def _explain(error: OSError, entry: Entry) -> CrispError:
    what = f"tar entry {entry.path!r}: {error.strerror}"
    if error.errno in _FULL:
        return ResourceExhausted(what)
    if error.errno in _WRONG:
        return InvalidInput(what)
    return Internal(what)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def main() -> None:
    """The child's whole life."""
    max_entries, seccomp, skeleton = int(sys.argv[1]), bytes.fromhex(sys.argv[2]), Writer(int(sys.argv[3]))
    os.umask(0)
    confine.enter(empty=False)
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    confine.drop(confine.UNTAR_CAPABILITIES, seccomp)
    try:
        report = Extraction(root, max_entries).run(Stream(0, skeleton))
        skeleton.end()
        answer = json.dumps({**report._asdict(), "skeleton": skeleton.whole and not report.replaced})
        status = 0
    except CrispError as error:
        answer = json.dumps({"error": type(error).__name__, "message": error.message[:1000], "hint": error.hint})
        status = REFUSED
    except OSError as error:
        kind = ResourceExhausted if error.errno in _FULL else Internal
        answer = json.dumps({"error": kind.__name__, "message": f"layer's folder: {error}", "hint": ""})
        status = REFUSED
    _write_all(1, answer.encode())
    os._exit(status)


if __name__ == "__main__":
    main()
