"""The bus methods of checkpoints' files: write, describe and restore.

Runs in the storage worker. One step at a time for a container.
"""

from __future__ import annotations

import asyncio

from kernel import ids
from kernel.bus.worker import Call
from kernel.config.sections import Config
from kernel.contracts import storage
from kernel.contracts.definition import Nothing
from kernel.contracts.storage import Checkpoint, ContainerRequest, Descriptions, RestoreRequest
from kernel.errors import FailedPrecondition
from kernel.host.aio import Deadline, Joins, KeyedLock, Tasks
from kernel.ids import ContainerId
from services.storage.checkpoints import image_layers
from services.storage.checkpoints.archive import Archives
from services.storage.checkpoints.changes import Changes
from services.storage.layers.layer_store import LayerStore
from services.storage.roots.root_store import RootStore


class CheckpointMethods:
    """The methods of the contract for checkpoints. `locks`: one holder for each container."""

    def __init__(
        self, config: Config, tasks: Tasks, layers: LayerStore, roots: RootStore, locks: KeyedLock[ContainerId]
    ) -> None:
        self._paths = config.paths
        self._layers = layers
        self._roots = roots
        self._locks = locks
        self._archives = Archives(config)
        self._changes = Changes(config)
        self._writes: Joins[ContainerId, Nothing] = Joins(tasks)
        self._restores: Joins[RestoreRequest, Nothing] = Joins(tasks)

    async def write_diff(self, request: ContainerRequest, call: Call) -> Nothing:
        """Write the changes that a frozen container has made in its root."""
        container_id = ids.container_id(request.container_id)
        return await self._writes.join(container_id, lambda: self._write(container_id), f"diff of {container_id}")

    async def _write(self, container_id: ContainerId) -> Nothing:
        async with self._locks.hold(container_id):
            upper, lower = self._roots.parts(container_id)
            await asyncio.to_thread(self._changes.write, upper, lower, self._paths.checkpoint(container_id))
        return Nothing()

    async def describe(self, request: Checkpoint, call: Call) -> Descriptions:
        """Return the descriptions in a checkpoint."""
        deadline = call.deadline.earlier(storage.DESCRIBE.deadline)
        if request.archive:
            return await self._archives.describe(request.archive, self._roots.nothing, deadline)
        return await asyncio.to_thread(image_layers.describe, self._layers.folders(request.layers))

    async def restore(self, request: RestoreRequest, call: Call) -> Nothing:
        """Lay out a checkpoint's files for the runtime, and make its changes in the container's root."""
        ids.container_id(request.container_id)
        return await self._restores.join(
            request, lambda: self._restore(request), f"checkpoint of {request.container_id}"
        )

    async def _restore(self, request: RestoreRequest) -> Nothing:
        container_id, source = request.container_id, request.checkpoint
        deadline = Deadline.after(storage.RESTORE.deadline)
        folder = self._paths.checkpoint(container_id)
        async with self._locks.hold(container_id):
            if not await asyncio.to_thread(self._roots.is_mounted, container_id):
                raise FailedPrecondition(f"container {container_id} has no root file system to restore")
            if source.archive:
                await self._archives.unpack(source.archive, folder, deadline)
            else:
                await asyncio.to_thread(image_layers.copy, self._layers.folders(source.layers), folder)
            await self._changes.apply(folder, self._paths.rootfs(container_id), deadline)
        return Nothing()
