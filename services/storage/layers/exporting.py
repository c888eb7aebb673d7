"""The tar of a layer, made again out of its files, for an archive that the administrator saves.

Runs in the storage worker. The tar is written to a file in the folder `outgoing`, under a name that the caller chose;
a tar that does not have the layer's digest is deleted. The caller takes the file away; if it does not, the next storage
worker deletes it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from kernel.config.sections import Config
from kernel.contracts.storage import Checked
from kernel.errors import Corrupt, FailedPrecondition, InvalidInput, NotFound, from_os
from kernel.host.aio import Deadline
from kernel.ids import DiffId
from services.storage.layers.checking import evaluate
from services.storage.layers.layer_store import LayerStore
from services.storage.layers.record import SKELETON, Record

_NAME = re.compile(r"[0-9a-f]{32}\.tar", re.ASCII)
_NO_LIMIT = 1 << 62
"""Bytes of the tar: its length follows from the skeleton and the files."""


class Exporter:
    """Writes tars of layers. The caller makes sure that a layer is not removed meanwhile."""

    def __init__(self, config: Config, layers: LayerStore) -> None:
        self._paths = config.paths
        self._layers = layers

    def clear(self) -> None:
        """Delete the files that an earlier worker wrote and no caller took away."""
        for left in self._paths.outgoing.glob("*.tar"):
            left.unlink(missing_ok=True)

    async def export(self, diff_id: DiffId, name: str, deadline: Deadline) -> int:
        """Write a layer's tar and return its size in bytes.

        NotFound for a layer that is not unpacked, FailedPrecondition for one without a skeleton, Corrupt if its files
        have changed.
        """
        if not _NAME.fullmatch(name):
            raise InvalidInput(f"name {name[:80]!a} is not 32 hex digits and .tar")
        record = self._layers.find(diff_id)
        if record is None:
            raise NotFound(f"layer {diff_id} is not unpacked")
        if not record.skeleton:
            raise FailedPrecondition(f"layer {diff_id}: its tar cannot be made again out of its files")
        target = self._paths.outgoing / name
        try:
            return await self._write(diff_id, record, target, deadline)
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    async def _write(self, diff_id: DiffId, record: Record, target: Path, deadline: Deadline) -> int:
        diff = self._paths.layer(diff_id) / "diff"
        try:
            skeleton = os.open(diff.parent / SKELETON, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                target.unlink(missing_ok=True)
                out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                async with deadline.limit(f"exporting layer {diff_id}"):
                    pumped, verified = await self._layers.children.rebuild(skeleton, diff, _NO_LIMIT, out)
            finally:
                os.close(skeleton)
        except OSError as error:
            raise from_os(error, f"layer {diff_id}: its tar cannot be written to {target.parent}") from error
        found = evaluate(diff_id, record, pumped, verified)
        if isinstance(found, Checked):
            raise Corrupt(f"layer {diff_id}: {found.why}", hint="see `crisp image check`")
        return pumped.bytes
