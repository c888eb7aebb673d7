"""The changes of a container in its root: written out of its writable layer, and made again in another's root.

Runs in the storage worker. Files are made by the child that makes layers, with the container's root as its own root.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kernel.config.sections import Config
from kernel.errors import Internal, InvalidInput
from kernel.host import filters
from kernel.host.aio import Deadline
from services.storage.checkpoints import child
from services.storage.checkpoints.diff import Diff
from services.storage.checkpoints.folder import named, os_errors
from services.storage.checkpoints.parts import DELETED, ROOTFS_DIFF
from services.storage.confined import system_calls
from services.storage.tar import untar
from services.storage.tar.whiteout import locate
from services.storage.trees import removal, within


def deleted_paths(text: bytes) -> list[bytes]:
    """Return the paths in a `deleted.files`; InvalidInput for one that is not below the root. Pure."""
    try:
        listed = msgspec.json.decode(text, type=list[str]) if text else []
    except msgspec.DecodeError as error:
        raise InvalidInput(f"deleted.files cannot be parsed: {error}") from error
    paths = [path.encode(errors="surrogateescape") for path in listed]
    for path in paths:
        if not locate(path)[1]:
            raise InvalidInput(f"deleted.files names {path!r}, the root itself")
    return paths


class Changes:
    """Writes a container's changes into a checkpoint's folder, and makes the changes that such a folder has."""

    def __init__(self, config: Config) -> None:
        self._limits = config.storage
        self._untar_filter = filters.allow_only(system_calls.UNTAR).hex()

    def write(self, upper: Path, lower: Sequence[Path], folder: Path) -> None:
        """Write a frozen container's changes. `upper`: its writable layer. `lower`: the folders of the layers below."""
        with os_errors("checkpoint cannot be written"):
            folder.mkdir(mode=0o700, exist_ok=True)
            with open(folder / os.fsdecode(ROOTFS_DIFF), "wb") as out:
                os.fchmod(out.fileno(), 0o600)
                deleted = Diff(upper, lower, out).write()
            paths = [f"/{os.fsdecode(path)}".encode(errors="replace").decode() for path in deleted]
            (folder / os.fsdecode(DELETED)).write_bytes(msgspec.json.encode(paths))

    async def apply(self, folder: Path, rootfs: Path, deadline: Deadline) -> None:
        """Make a checkpoint's changes in a container's mounted root: first the deletions, then what is in the tar."""
        with named("checkpoint"):
            await asyncio.to_thread(_delete, folder, rootfs)
            try:
                source = os.open(folder / os.fsdecode(ROOTFS_DIFF), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                return  # the container changed nothing
            skeleton = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # it is not checked against a digest later
            try:
                words = (str(self._limits.max_layer_entries), self._untar_filter, str(skeleton))
                await child.run(child.program(untar.__name__, *words), rootfs, source, deadline, (skeleton,))
            finally:
                os.close(skeleton)
                os.close(source)


def _delete(folder: Path, rootfs: Path) -> None:
    try:
        paths = deleted_paths((folder / os.fsdecode(DELETED)).read_bytes())
    except FileNotFoundError:
        return  # nothing was deleted
    root = os.open(rootfs, within.PLACE)
    try:
        for path in paths:
            try:
                _delete_one(root, path)
            except OSError as error:
                raise Internal(f"{os.fsdecode(path)} cannot be deleted: {error.strerror}") from error
    finally:
        os.close(root)


def _delete_one(root: int, path: bytes) -> None:
    above, name = locate(path)
    try:
        parent = within.open_in_root(root, above, within.FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return  # deleted with the folder that it was in
    try:
        removal.remove_in_place(parent, name)
    finally:
        os.close(parent)
