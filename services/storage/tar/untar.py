"""The child that makes a layer's files out of its tar: it reads standard input, and writes below `/` only.

Started by the storage worker as `python -I -m services.storage.tar.untar MAX_ENTRIES FILTER SKELETON` with the layer's
folder as working directory, which becomes its root, and a descriptor for the layer's skeleton. Even so every parent is
opened by openat2 within the root, every name is a single component below such a descriptor, and nothing is followed or
changed through a name's last component.

The worker hashes the same bytes before they come here, and renames the layer into place only if they were right.
Answer on standard output, as JSON: a `Report` and whether the skeleton is whole, or the kind and message of an error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Mapping

from kernel.errors import FULL, CrispError, Internal, InvalidInput, ResourceExhausted
from kernel.formats.tar_header import Kind
from services.storage.confined import answer, confine
from services.storage.tar import makers
from services.storage.tar.parents import Parents
from services.storage.tar.pipe_source import Stream
from services.storage.tar.reader import Entry, entries
from services.storage.tar.skeleton import Writer
from services.storage.tar.tally import Report, Tally
from services.storage.tar.whiteout import Action, Operation, decide
from services.storage.trees import layer_size, overlay_marks, within

_WRONG = frozenset({
    errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EXDEV, errno.EEXIST, errno.E2BIG, errno.ERANGE,
})  # fmt: skip
"""Errors of the file system that an entry of the tar causes."""
_FULL = FULL | {errno.EMLINK}
_MAKERS: Mapping[Kind, Callable[[int, bytes, Entry], None]] = {
    Kind.SYMLINK: makers.make_symlink,
    Kind.CHARACTER: makers.make_node,
    Kind.BLOCK: makers.make_node,
    Kind.FIFO: makers.make_node,
}


class Extraction:
    """One layer being made below the open directory `root`."""

    def __init__(self, root: int, max_entries: int) -> None:
        self._root = root
        self._left = max_entries
        self._tally = Tally()
        self._parents = Parents(root, self._tally)
        self._folder_times: dict[bytes, int] = {}

    def run(self, source: Stream) -> Report:
        """Make every entry of the tar."""
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
        if self._tally.replaced:
            self._tally.bytes, self._tally.inodes = layer_size.count(self._root)
        return self._tally.report()

    def _perform(self, operation: Operation, entry: Entry, source: Stream) -> None:
        if operation.action is Action.SKIP:
            return
        parent = self._parents.open(operation.parent)
        if operation.action is Action.OPAQUE:
            self._tally.opaque.add(operation.parent)
        elif operation.action is Action.HIDE:
            self._hide(parent, operation.name, operation.path)
        elif entry.kind is Kind.DIRECTORY:
            self._make_folder(parent, operation, entry)
        else:
            self._make(parent, operation, entry, source)

    def _make(self, parent: int, operation: Operation, entry: Entry, source: Stream) -> None:
        """Make anything but a directory; what this tar made earlier at the place goes first."""
        name = operation.name
        for attempt in (1, 2):
            try:
                if entry.kind is Kind.FILE:
                    makers.make_file(parent, name, entry, source)
                    self._tally.add(layer_size.blocks(entry.size))
                elif entry.kind is Kind.HARD_LINK:
                    makers.make_hard_link(self._root, parent, name, entry)
                else:
                    _MAKERS[entry.kind](parent, name, entry)
                    self._tally.add()
            except FileExistsError:
                if attempt == 2:
                    raise
                if entry.kind is Kind.HARD_LINK and makers.is_linked(self._root, parent, name, entry):
                    return
                self._parents.remove(parent, name, operation.path)
                parent = self._parents.open(operation.parent)
            else:
                break

    def _make_folder(self, parent: int, operation: Operation, entry: Entry) -> None:
        path = operation.path
        if not operation.name:
            self._tally.has_root = True
            makers.set_metadata(self._root, entry)
        else:
            fd = self._parents.open_or_make(parent, operation.name, path)
            try:
                makers.set_metadata(fd, entry)
            finally:
                os.close(fd)
            self._tally.has_entry(path)
        self._folder_times[path] = entry.mtime_ns

    def _hide(self, parent: int, name: bytes, path: bytes) -> None:
        """Make a whiteout. What this same layer has at the place stays (image-spec, layer.md) and hides as well."""
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                self._tally.opaque.add(path)
            return
        self._tally.hide(path)
        self._tally.add()

    def _drop_needless_whiteouts(self) -> None:
        """Remove whiteouts in opaque directories, which hide all that is below already: they would be seen as files."""
        for path in self._tally.hidden:
            folder, _, name = path.rpartition(b"/")
            if folder not in self._tally.opaque:
                continue
            parent = self._parents.open(folder)
            with contextlib.suppress(FileNotFoundError):  # a link to the folder, and a later entry, may have taken it
                if overlay_marks.is_whiteout(os.lstat(name, dir_fd=parent)):
                    os.unlink(name, dir_fd=parent)
                    self._tally.inodes -= 1

    def _set_folder_times(self) -> None:
        """Set the times of directories last: each entry made in one changes its time."""
        self._parents.close()
        for path, time_ns in self._folder_times.items():
            try:
                fd = within.open_in_root(self._root, path, within.FOLDER)
            except (FileNotFoundError, NotADirectoryError):
                continue  # replaced by a later entry
            except OSError as error:
                if error.errno == errno.ELOOP:  # the same, by a link
                    continue
                raise
            os.utime(fd, ns=(time_ns, time_ns))
            os.close(fd)


def _explain(error: OSError, entry: Entry) -> CrispError:
    what = f"tar entry {entry.path!r}: {error.strerror}"
    if error.errno in _FULL:
        return ResourceExhausted(what)
    if error.errno in _WRONG:
        return InvalidInput(what)
    return Internal(what)


def main() -> None:
    """Run the child from its start to its end."""
    max_entries, seccomp, skeleton = int(sys.argv[1]), bytes.fromhex(sys.argv[2]), Writer(int(sys.argv[3]))
    os.umask(0)
    confine.enter(empty=False)
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    confine.drop(confine.UNTAR_CAPABILITIES, seccomp)

    def extract() -> dict[str, object]:
        report = Extraction(root, max_entries).run(Stream(0, skeleton))
        skeleton.end()
        return {**report._asdict(), "skeleton": skeleton.whole and not report.replaced}

    answer.finish(1, extract, "layer's folder")


if __name__ == "__main__":
    main()
