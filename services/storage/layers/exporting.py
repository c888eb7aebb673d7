"""The tar of a layer, made again out of its files, for an archive that the administrator saves.

Runs in the storage worker. The tar goes into a file of the folder `outgoing`, whose name the caller chose; what does
not have the layer's digest is none, and stays nowhere. Whoever asked takes the file away; the next worker does where
nobody did.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from kernel.config.sections import Config
from kernel.contracts.storage import Checked
from kernel.errors import Corrupt, FailedPrecondition, Internal, InvalidInput, NotFound, ResourceExhausted
from kernel.host.aio import Deadline
from kernel.ids import DiffId
from services.storage.layers.checking import judge
from services.storage.layers.layer_store import SKELETON, LayerStore

_NAME = re.compile(r"[0-9a-f]{32}\.tar", re.ASCII)
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Exporter:
    """Writes tars of layers; the caller sees to it that a layer is not removed meanwhile."""

    def __init__(self, config: Config, layers: LayerStore) -> None:
        self._paths = config.paths
        self._layers = layers

    def clear(self) -> None:
        """Take away what nobody fetched from an earlier worker."""
        for left in self._paths.outgoing.glob("*.tar"):
            left.unlink(missing_ok=True)

    async def export(self, diff_id: DiffId, name: str, deadline: Deadline) -> int:
        """Write a layer's tar; its size."""
        if not _NAME.fullmatch(name):
            raise InvalidInput(f"name {name[:80]!a} is not 32 hex digits and .tar")
        record = self._layers.find(diff_id)
        if record is None:
            raise NotFound(f"layer {diff_id} is not unpacked")
        if not record.skeleton:
            raise FailedPrecondition(f"layer {diff_id}: its tar cannot be made again out of its files")
        target = self._paths.outgoing / name
        try:
            size = await self._write(diff_id, target, deadline)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return size

    async def _write(self, diff_id: DiffId, target: Path, deadline: Deadline) -> int:
        diff = self._paths.layer(diff_id) / "diff"
        record = self._layers.find(diff_id)
        assert record is not None  # the caller looked, and holds it
        try:
            skeleton = os.open(diff.parent / SKELETON, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                target.unlink(missing_ok=True)
                out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                async with deadline.limit(f"exporting layer {diff_id}"):
                    pumped, verified = await self._layers.children.rebuild(skeleton, diff, 1 << 62, out)
            finally:
                os.close(skeleton)
        except OSError as error:
            kind = ResourceExhausted if error.errno in _FULL else Internal
            raise kind(f"layer {diff_id}: its tar cannot be written to {target.parent}: {error.strerror}") from error
        verdict = judge(diff_id, record, pumped, verified)
        if isinstance(verdict, Checked):
            raise Corrupt(f"layer {diff_id}: {verdict.why}", hint="see `crisp image check`")
        return pumped.bytes
