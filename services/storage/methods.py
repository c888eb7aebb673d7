"""The storage worker's bus methods: the table of all of them, and the few that concern everything on the host.

Runs as root with few capabilities and no network. It is given ids only and derives every path, except that of an
archive to restore from. Between calls it keeps nothing in memory but work under way and sizes: what exists is read from
the disk and the kernel's mount table, so the successor of a worker that was killed goes on from there. A step that has
begun runs to its end, even if its caller goes away.
"""

from __future__ import annotations

import asyncio

from kernel.bus.worker import Call
from kernel.config.sections import Config
from kernel.contracts.definition import Nothing
from kernel.contracts.storage import FsInfo, Inventory, JudgeRequest
from kernel.host.aio import Joins, Tasks
from services.storage.checkpoint_methods import CheckpointMethods
from services.storage.container_methods import ContainerMethods
from services.storage.layer_methods import LayerMethods
from services.storage.layers.layer_store import LayerStore
from services.storage.roots.container_folders import ContainerFolders
from services.storage.roots.root_store import RootStore
from services.storage.trees.usage_cache import UsageCache
from services.storage.trust.gate import Gate


async def create(config: Config) -> StorageService:
    """Make the service, inside the running loop. The worker's entry point."""
    return StorageService(config)


class StorageService:
    """Contract `kernel.contracts.storage`: one attribute or method for each of its methods."""

    def __init__(self, config: Config) -> None:
        self._paths = config.paths
        self._tasks = tasks = Tasks()
        self._sizes = sizes = UsageCache()
        self._store = layers = LayerStore(config)
        self._folders = folders = ContainerFolders(config.paths, layers)
        self._roots = roots = RootStore(config, layers, folders)
        self._gate = Gate(config, tasks)
        self._layers = LayerMethods(config, tasks, layers, folders, sizes)
        self._containers = ContainerMethods(config, tasks, roots, folders, self._layers, sizes)
        checkpoints = CheckpointMethods(config, tasks, layers, roots, self._containers.locks)
        self._sweeps: Joins[str, Nothing] = Joins(tasks)
        self._loads: Joins[str, None] = Joins(tasks)
        tasks.spawn(self._gate.announce(), "read the policy for signatures")

        self.unpack = self._layers.unpack
        self.layers = self._layers.layers
        self.check = self._layers.check
        self.settle = self._layers.settle
        self.export = self._layers.export
        self.remove_layer = self._layers.remove_layer
        self.mount = self._containers.mount
        self.unmount = self._containers.unmount
        self.usage = self._containers.usage
        self.write_diff = checkpoints.write_diff
        self.describe = checkpoints.describe
        self.restore = checkpoints.restore

    async def close(self) -> None:
        """End the work under way. INVENTORY reports all that it leaves on the host."""
        await self._tasks.close()
        self._gate.close()
        await asyncio.to_thread(self._layers.close)

    async def judge(self, request: JudgeRequest, call: Call) -> Nothing:
        """Return if the policy for signatures accepts an image; otherwise raise Untrusted."""
        await self._gate.judge(request)
        return Nothing()

    async def fs_info(self, request: Nothing, call: Call) -> FsInfo:
        """Return the space of images and writable layers as last counted; old sizes are measured again meanwhile."""
        if not self._sizes.loaded:
            await self._loads.join("", self._load_sizes, "load sizes")
        self._containers.refresh()
        return FsInfo(
            images_mountpoint=str(self._paths.layers),
            images=self._sizes.layers,
            containers_mountpoint=str(self._paths.containers),
            containers=self._sizes.containers,
            driver=await self._containers.driver(),
        )

    async def _load_sizes(self) -> None:
        layers = await self._layers.sizes()
        self._sizes.load(layers, await asyncio.to_thread(self._folders.all))

    async def inventory(self, request: Nothing, call: Call) -> Inventory:
        """Return what storage holds on the host."""
        return await asyncio.to_thread(self._inventory)

    def _inventory(self) -> Inventory:
        return Inventory(
            layers=tuple(self._store.all()),
            containers=tuple(self._folders.all()),
            mounted=tuple(self._roots.mounted()),
            partial=(*self._layers.partial(), *self._folders.partial()),
        )

    async def sweep(self, request: Nothing, call: Call) -> Nothing:
        """Delete left-overs."""
        return await self._sweeps.join("", self._sweep, "sweep")

    async def _sweep(self) -> Nothing:
        async with self._layers.claims:
            await asyncio.to_thread(self._delete_partial)
        return Nothing()

    def _delete_partial(self) -> None:
        self._layers.delete_partial()
        for name in self._folders.partial():
            self._folders.discard(name)
