"""The bus methods of containers: mount, unmount and usage, each a spine of named steps.

Runs in the storage worker. One step at a time for a container (`locks`, which the methods of checkpoints hold too).
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from math import inf
from pathlib import Path

from kernel import ids
from kernel.bus.worker import Call
from kernel.config.sections import Config
from kernel.contracts.definition import Nothing
from kernel.contracts.storage import ContainerRequest, Mounted, MountRequest, Usage
from kernel.errors import NotFound
from kernel.host.aio import Joins, KeyedLock, Tasks, result_of
from kernel.ids import ContainerId
from services.storage.layer_methods import LayerMethods
from services.storage.roots.container_folders import ContainerFolders
from services.storage.roots.root_store import Mapped, RootStore
from services.storage.trees import passwd, usage
from services.storage.trees.usage_cache import UsageCache

_REST = 20
"""After each writable layer that is measured in the background, the pause is this many times as long as that took."""
_LOG = logging.getLogger(__name__)


class ContainerMethods:
    """The methods of the contract for root file systems and writable layers."""

    def __init__(
        self, config: Config, tasks: Tasks, roots: RootStore, folders: ContainerFolders, layers: LayerMethods,
        sizes: UsageCache,
    ) -> None:  # fmt: skip
        self.locks: KeyedLock[ContainerId] = KeyedLock()
        self._driver_wanted = config.storage.driver
        self._paths = config.paths
        self._roots = roots
        self._folders = folders
        self._layers = layers
        self._sizes = sizes
        self._mounts: Joins[MountRequest, Mounted] = Joins(tasks)
        self._unmounts: Joins[ContainerId, Nothing] = Joins(tasks)
        self._measures: Joins[ContainerId, Usage] = Joins(tasks)
        self._refreshes: Joins[str, None] = Joins(tasks)
        self._choosing = tasks.run(self._choose_driver(), "choose the driver", remembered=True)

    async def _choose_driver(self) -> str:
        """Choose overlays if the configuration and the kernel allow them, else copies."""
        wanted = self._driver_wanted
        reason = "" if wanted == "vfs" else await asyncio.to_thread(self._roots.try_overlay)
        if reason and wanted == "overlay":
            _LOG.error("containers cannot get a root file system: %s", reason)
        elif reason or wanted == "vfs":
            reason = reason or "storage.driver is vfs"
            _LOG.warning("containers get copies of their layers: %s", reason)
            self._roots.no_overlay = reason
        return "vfs" if self._roots.no_overlay else "overlay"

    async def driver(self) -> str:
        """Return how roots are made: `overlay` or `vfs`."""
        return await result_of(self._choosing)

    async def mount(self, request: MountRequest, call: Call) -> Mounted:
        """Mount a container's root and read its user and group files."""
        ids.container_id(request.container_id)
        return await self._mounts.join(request, lambda: self._mount(request), f"mount {request.container_id}")

    async def _mount(self, request: MountRequest) -> Mounted:
        container_id = request.container_id
        await self.driver()
        await self._layers.verify_pending((*request.layers, *(layer for volume in request.volumes for layer in volume)))
        async with self.locks.hold(container_id):
            async with self._layers.claims:
                await asyncio.to_thread(self._folders.claim, container_id, request.layers, request.volumes)
            mapped = self._mapped(request)
            if not await asyncio.to_thread(self._roots.is_mounted, container_id):
                new = await asyncio.to_thread(self._roots.mount, container_id, request.layers, request.label, mapped)
                self._sizes.set_container(container_id, usage.NEW, time.monotonic() if new else -inf)
            if request.volumes:
                await asyncio.to_thread(self._roots.mount_volumes, container_id, request.volumes, request.label, mapped)
            return await asyncio.to_thread(_read_accounts, self._paths.rootfs(container_id))

    def _mapped(self, request: MountRequest) -> Mapped | None:
        if request.user_namespace is None or request.id_map is None:
            return None
        pin = self._paths.pod_namespace(ids.sandbox_id(request.user_namespace), "user")
        return Mapped(namespace=pin, ids=request.id_map)

    async def unmount(self, request: ContainerRequest, call: Call) -> Nothing:
        """Unmount a container's root and delete its writable layer."""
        container_id = ids.container_id(request.container_id)
        return await self._unmounts.join(container_id, lambda: self._unmount(container_id), f"unmount {container_id}")

    async def _unmount(self, container_id: ContainerId) -> Nothing:
        async with self.locks.hold(container_id):
            await asyncio.to_thread(self._roots.remove, container_id)
            self._sizes.set_container(container_id, None, 0)
        await self._layers.sweep_replaced()
        return Nothing()

    async def usage(self, request: ContainerRequest, call: Call) -> Usage:
        """Return the size of a container's writable layer, measured now or a moment ago."""
        container_id = ids.container_id(request.container_id)
        return self._sizes.fresh(container_id, time.monotonic()) or await self._join_measure(container_id)

    async def _join_measure(self, container_id: ContainerId) -> Usage:
        return await self._measures.join(container_id, lambda: self._measure(container_id), f"measure {container_id}")

    async def _measure(self, container_id: ContainerId) -> Usage:
        try:
            found = await asyncio.to_thread(self._roots.measure, container_id)
        except NotFound:
            self._sizes.set_container(container_id, None, 0)
            raise
        self._sizes.set_container(container_id, found, time.monotonic())
        return found

    def refresh(self) -> None:
        """Measure in the background the writable layers whose sizes are old, unless this is under way already."""
        if self._sizes.due(time.monotonic()) is not None:
            self._refreshes.ensure("", self._refresh, "measure writable layers")

    async def _refresh(self) -> None:
        while (container_id := self._sizes.due(time.monotonic())) is not None:
            begun = time.monotonic()
            with suppress(NotFound):  # removed meanwhile
                await self._join_measure(container_id)
            await asyncio.sleep((time.monotonic() - begun) * _REST)  # a pause: others need the disk and the CPU too


def _read_accounts(root: Path) -> Mounted:
    return Mounted(passwd=passwd.read_in_root(root, "etc/passwd"), group=passwd.read_in_root(root, "etc/group"))
