"""Whether a layer on disk still is what its digest says; and which layers must be asked after the host went down.

Runs in the storage worker. A layer's tar is made again out of its files and its skeleton, and hashed: the digest is
the image's own, so nothing that was written here is believed. A layer of which that cannot be (its tar named a file
twice) is counted and no more, and that is said.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from kernel.config.sections import Config
from kernel.contracts.storage import Checked, LayerState
from kernel.errors import Corrupt, Internal
from kernel.host import process, syscalls
from kernel.host.aio import Deadline
from kernel.ids import DiffId
from services.storage.layers.children import Ended
from services.storage.layers.hash_pump import Pumped
from services.storage.layers.layer_store import SKELETON, LayerStore, Record
from services.storage.tar import untar, verify

_WITHIN = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
_FOLDER = os.O_RDONLY | os.O_DIRECTORY


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    inodes: int
    opaque: tuple[str, ...]


class _Wrong(msgspec.Struct, frozen=True, kw_only=True):
    error: str
    message: str


def judge(diff_id: DiffId, record: Record, pumped: Pumped, verified: Ended) -> Checked | _Found:
    """What is wrong with a layer, or what is still to be looked at. Internal where that could not be found. Pure."""
    try:
        if verified.returncode == verify.REFUSED:
            wrong = msgspec.json.decode(verified.answer, type=_Wrong)
            if wrong.error == Internal.__name__:
                raise Internal(f"layer {diff_id} could not be checked: {wrong.message}")
            return damaged(wrong.message)
        if verified.returncode:
            raise Internal(f"layer {diff_id} could not be checked: {process.describe(verified.returncode)}")
        found = msgspec.json.decode(verified.answer, type=_Found)
    except msgspec.DecodeError as error:
        raise Internal(f"layer {diff_id} could not be checked: the answer is not understood: {error}") from error
    if pumped.digest != diff_id:
        return damaged(f"its files give the tar {pumped.digest}")
    if found.inodes != record.inodes:
        return damaged(f"it has {found.inodes} files and folders instead of {record.inodes}")
    return found


def damaged(why: str) -> Checked:
    """The finding that a layer is bad."""
    return Checked(state=LayerState.DAMAGED, why=why)


class Checker:
    """Checks layers one by one; the caller sees to it that a layer is not removed meanwhile."""

    def __init__(self, config: Config, layers: LayerStore) -> None:
        self._paths = config.paths
        self._layers = layers

    async def check(self, diff_id: DiffId, deadline: Deadline) -> Checked:
        """Read all of a layer."""
        record = self._layers.find(diff_id)
        if record is None:
            return Checked(state=LayerState.MISSING, why="it is not unpacked")
        diff = self._paths.layer(diff_id) / "diff"
        try:
            self._layers.notes(diff_id)
        except Corrupt as error:
            return damaged(error.message)
        if not record.skeleton:
            return await asyncio.to_thread(_counted, diff, record)
        try:
            skeleton = os.open(diff.parent / SKELETON, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            return damaged(f"the skeleton of its tar cannot be read: {error.strerror}")
        try:
            async with deadline.limit(f"checking layer {diff_id}"):
                pumped, verified = await self._layers.children.rebuild(skeleton, diff, 1 << 62)
        finally:
            os.close(skeleton)
        verdict = judge(diff_id, record, pumped, verified)
        if isinstance(verdict, Checked):
            return verdict
        missing = await asyncio.to_thread(_unmarked, diff, verdict.opaque)
        return damaged(f"{missing!r} has lost its opaque mark") if missing else Checked(state=LayerState.WHOLE)


def _counted(diff: Path, record: Record) -> Checked:
    root = os.open(diff, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        inodes = untar.count(root)[1]
    finally:
        os.close(root)
    if inodes != record.inodes:
        return damaged(f"it has {inodes} files and folders instead of {record.inodes}")
    return Checked(state=LayerState.UNPROVEN, why="its tar cannot be made again, so its files were only counted")


def _unmarked(diff: Path, opaque: tuple[str, ...]) -> str:
    """A folder that must be opaque and is not; nothing where all are."""
    root = os.open(diff, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in opaque:
            try:
                fd = syscalls.openat2(root, os.fsdecode(path.encode("latin-1") or b"."), _FOLDER, _WITHIN)
            except OSError:
                return path
            try:
                if os.getxattr(fd, "trusted.overlay.opaque") != b"y":
                    return path
            except OSError:
                return path
            finally:
                os.close(fd)
        return ""
    finally:
        os.close(root)
