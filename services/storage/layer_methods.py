"""The bus methods of layers: unpack, check, export, list and remove, each a spine of named steps.

Runs in the storage worker. One step at a time for a layer (`_locks`); calls for the same layer join. A layer is removed
only while no container can claim it (`claims`). Layers that are unverified since an unclean shutdown of the host are
checked in the background, and before anything uses them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from kernel.bus.worker import Call
from kernel.config.sections import Config
from kernel.contracts import storage
from kernel.contracts.definition import Nothing
from kernel.contracts.storage import (
    Checked,
    CheckRequest,
    Exported,
    ExportRequest,
    LayerRequest,
    Layers,
    LayerState,
    UnpackRequest,
    Usage,
)
from kernel.errors import CrispError, FailedPrecondition
from kernel.host.aio import Deadline, Joins, KeyedLock, Tasks, result_of
from kernel.ids import DiffId, digest
from services.storage.layers.checking import Checker
from services.storage.layers.exporting import Exporter
from services.storage.layers.layer_store import LayerStore
from services.storage.layers.unverified import Unverified
from services.storage.roots.container_folders import ContainerFolders
from services.storage.trees.usage_cache import UsageCache

_LOG = logging.getLogger(__name__)


class LayerMethods:
    """The methods of the contract for layers."""

    def __init__(
        self, config: Config, tasks: Tasks, layers: LayerStore, folders: ContainerFolders, sizes: UsageCache
    ) -> None:
        self.claims = asyncio.Lock()
        """Held while a container claims layers, and while a layer that no container claims is found and removed."""
        self._store = layers
        self._folders = folders
        self._sizes = sizes
        self._checker = Checker(config, layers)
        self._exporter = Exporter(config, layers)
        self._unverified = Unverified(config.paths.layers.parent, layers)
        self._locks: KeyedLock[DiffId] = KeyedLock()
        self._unpacks: Joins[DiffId, Usage] = Joins(tasks)
        self._checks: Joins[CheckRequest, Checked] = Joins(tasks)
        self._removals: Joins[DiffId, Nothing] = Joins(tasks)
        self._exporter.clear()
        self._settling = tasks.run(self._settle(), "check unverified layers", remembered=True)

    def close(self) -> None:
        """End the threads, and note that storage ends in order. Blocks."""
        self._store.close()
        self._unverified.end()

    async def unpack(self, request: UnpackRequest, call: Call) -> Usage:
        """Make a layer from its blob, once."""
        diff_id = DiffId(digest(request.layer.diff_id))
        return await self._unpacks.join(diff_id, lambda: self._unpack(request), f"unpack {diff_id}")

    async def _unpack(self, request: UnpackRequest) -> Usage:
        diff_id = request.layer.diff_id
        await self.verify_pending((diff_id,))
        async with self._locks.hold(diff_id):
            present = await asyncio.to_thread(self._store.find, diff_id)
            if present is not None:
                return Usage(bytes=present.bytes, inodes=present.inodes)
            unpacked = await self._store.unpack(request.layer, Deadline.after(storage.UNPACK.deadline))
            self._sizes.set_layer(diff_id, unpacked)
        await self.sweep_replaced()
        return unpacked

    async def sweep_replaced(self) -> None:
        """Delete the damaged layers that were made again, except those that a container still uses."""
        if self._store.replaced:
            async with self.claims:
                for name in tuple(self._store.replaced):
                    await asyncio.to_thread(self._store.sweep, name, self._folders.user_of)

    async def check(self, request: CheckRequest, call: Call) -> Checked:
        """Read all of a layer and report damage. Calls at the same time share one reading."""
        digest(request.diff_id)
        return await self._join_check(request)

    async def _join_check(self, request: CheckRequest) -> Checked:
        return await self._checks.join(request, lambda: self._check(request), f"check {request.diff_id}")

    async def _check(self, request: CheckRequest) -> Checked:
        diff_id = request.diff_id
        async with self._locks.hold(diff_id):
            found = await self._checker.check(diff_id, Deadline.after(storage.CHECK.deadline))
            if found.state is LayerState.DAMAGED and request.drop:
                _LOG.warning("layer %s is damaged and has to be fetched again: %s", diff_id, found.why)
                await asyncio.to_thread(self._store.drop, diff_id)
                self._sizes.set_layer(diff_id, None)
            if diff_id in self._unverified.pending and (found.state is not LayerState.DAMAGED or request.drop):
                await asyncio.to_thread(self._unverified.clear, diff_id)
        return found

    async def verify_pending(self, layers: Iterable[DiffId]) -> None:
        """Check each of these layers that is still unverified since an unclean shutdown; drop it if damaged."""
        for diff_id in dict.fromkeys(layers):
            if diff_id in self._unverified.pending:
                await self._join_check(CheckRequest(diff_id=diff_id, drop=True))

    async def _settle(self) -> None:
        for diff_id in self._unverified.pending:
            try:
                await self.verify_pending((diff_id,))
            except CrispError as error:  # it stays unverified, and is checked again before it is used
                _LOG.warning("%s", error)

    async def settle(self, request: Nothing, call: Call) -> Nothing:
        """Wait until every layer that was unverified at the start has been checked."""
        await result_of(self._settling)
        return Nothing()

    async def export(self, request: ExportRequest, call: Call) -> Exported:
        """Make a layer's tar again."""
        diff_id = DiffId(digest(request.diff_id))
        async with self._locks.hold(diff_id):
            deadline = Deadline.after(storage.EXPORT.deadline)
            return Exported(size=await self._exporter.export(diff_id, request.name, deadline))

    async def layers(self, request: Nothing, call: Call) -> Layers:
        """Return every whole layer with its size."""
        return Layers(layers=await self.sizes())

    async def sizes(self) -> dict[DiffId, Usage]:
        """Return the size of every whole layer."""
        found = await asyncio.to_thread(self._store.all)
        return {diff_id: Usage(bytes=record.bytes, inodes=record.inodes) for diff_id, record in found.items()}

    async def remove_layer(self, request: LayerRequest, call: Call) -> Nothing:
        """Delete a layer that no container uses."""
        diff_id = DiffId(digest(request.diff_id))
        return await self._removals.join(diff_id, lambda: self._remove(diff_id), f"remove {diff_id}")

    async def _remove(self, diff_id: DiffId) -> Nothing:
        async with self._locks.hold(diff_id):
            async with self.claims:
                aside = await asyncio.to_thread(self._set_aside, diff_id)
            self._sizes.set_layer(diff_id, None)
            if aside is not None:
                await asyncio.to_thread(self._store.discard, aside)
        return Nothing()

    def _set_aside(self, diff_id: DiffId) -> Path | None:
        user = self._folders.user_of(diff_id)
        if user is not None:
            raise FailedPrecondition(
                f"layer {diff_id} is used by container {user}", hint="remove the container before its image"
            )
        return self._store.remove(diff_id)

    def partial(self) -> Iterator[str]:
        """Yield the names of left-overs, except damaged layers that a container still uses. Blocks."""
        for name in self._store.partial():
            diff_id = self._store.layer_of(name)
            if diff_id is None or self._folders.user_of(diff_id) is None:
                yield name

    def delete_partial(self) -> None:
        """Delete left-overs. Blocks; the caller holds `claims`."""
        for name in self._store.partial():
            self._store.sweep(name, used=self._folders.user_of)
