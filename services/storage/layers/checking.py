"""Checks that the files of a layer on disk still match the layer's digest.

Runs in the storage worker. A layer's tar is made again out of its files and its skeleton, and hashed: the digest is
the image's own, so no file that crisp wrote is trusted. If the tar cannot be made again (it named a file twice), the
files are only counted, and the result is marked as unproven.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from kernel.config.sections import Config
from kernel.contracts.storage import Checked, LayerState
from kernel.errors import Corrupt, Internal
from kernel.host import process
from kernel.host.aio import Deadline
from kernel.ids import DiffId
from services.storage.confined import answer, refusal
from services.storage.layers.children import Ended
from services.storage.layers.hash_pump import Pumped
from services.storage.layers.layer_store import LayerStore
from services.storage.layers.record import SKELETON, Record
from services.storage.trees import layer_size, overlay_marks, within

_NO_LIMIT = 1 << 62
"""Bytes of a tar that is made again: its length follows from the skeleton and the files."""


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of the child that compares, as `tar.verify.Found` has it."""

    inodes: int
    opaque: tuple[str, ...]


def evaluate(diff_id: DiffId, record: Record, pumped: Pumped, verified: Ended) -> Checked | _Found:
    """Return the damage that was found, or else the facts that are still to be compared. Pure.

    Internal if the check itself failed, which is no damage.
    """
    try:
        if verified.returncode == answer.REFUSED:
            wrong = refusal.decode(verified.answer)
            if wrong.error == Internal.__name__:
                raise Internal(f"layer {diff_id} could not be checked: {wrong.message}")
            return damaged(wrong.message)
        if verified.returncode:
            raise Internal(f"layer {diff_id} could not be checked: {process.describe(verified.returncode)}")
        found = msgspec.json.decode(verified.answer, type=_Found)
    except msgspec.DecodeError as error:
        raise Internal(f"layer {diff_id} could not be checked: the answer cannot be decoded: {error}") from error
    if pumped.digest != diff_id:
        return damaged(f"its files give the tar {pumped.digest}")
    if found.inodes != record.inodes:
        return damaged(f"it has {found.inodes} files and folders instead of {record.inodes}")
    return found


def damaged(reason: str) -> Checked:
    """Return the finding that a layer is damaged."""
    return Checked(state=LayerState.DAMAGED, why=reason)


class Checker:
    """Checks layers. The caller makes sure that a layer is not removed meanwhile."""

    def __init__(self, config: Config, layers: LayerStore) -> None:
        self._paths = config.paths
        self._layers = layers

    async def check(self, diff_id: DiffId, deadline: Deadline) -> Checked:
        """Read all of a layer and return the result."""
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
                pumped, verified = await self._layers.children.rebuild(skeleton, diff, _NO_LIMIT)
        finally:
            os.close(skeleton)
        verdict = evaluate(diff_id, record, pumped, verified)
        if isinstance(verdict, Checked):
            return verdict
        missing = await asyncio.to_thread(_unmarked, diff, verdict.opaque)
        return damaged(f"{missing!r} has lost its opaque mark") if missing else Checked(state=LayerState.WHOLE)


def _counted(diff: Path, record: Record) -> Checked:
    root = os.open(diff, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        inodes = layer_size.count(root)[1]
    finally:
        os.close(root)
    if inodes != record.inodes:
        return damaged(f"it has {inodes} files and folders instead of {record.inodes}")
    return Checked(state=LayerState.UNPROVEN, why="its tar cannot be made again, so its files were only counted")


def _unmarked(diff: Path, opaque: tuple[str, ...]) -> str:
    """Return a folder that must be opaque and is not; empty if all are."""
    root = os.open(diff, within.PLACE)
    try:
        for path in opaque:
            try:
                fd = within.open_in_root(root, path.encode("latin-1"), os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                return path
            try:
                if not overlay_marks.is_opaque(fd):
                    return path
            except OSError:
                return path
            finally:
                os.close(fd)
        return ""
    finally:
        os.close(root)
