"""The storage worker's bus methods, each a spine of named steps.

Runs as root with few capabilities and no network. It takes ids only and derives every path. Nothing is remembered
between calls but what is under way: the answer to what exists comes from the disk and the kernel's mount table, so a
worker that was killed goes on where the disk says. A step once begun runs to its end, also when its caller goes away.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import TypeVar, cast

from kernel.bus.worker import Call
from kernel.config.sections import Config
from kernel.contracts import storage
from kernel.contracts.contract import Nothing
from kernel.contracts.storage import (
    Checked,
    Checkpoint,
    CheckRequest,
    ContainerRequest,
    Descriptions,
    Exported,
    ExportRequest,
    FsInfo,
    Inventory,
    JudgeRequest,
    LayerRequest,
    Layers,
    LayerState,
    Mounted,
    MountRequest,
    RestoreRequest,
    UnpackRequest,
    Usage,
)
from kernel.errors import CrispError, FailedPrecondition, NotFound
from kernel.host.aio import Deadline, Joins, KeyedLock, Tasks
from kernel.ids import ContainerId, DiffId, container_id, digest, sandbox_id
from services.storage import checkpoint
from services.storage.checkpoint import Checkpoints
from services.storage.layers.checking import Checker
from services.storage.layers.exporting import Exporter
from services.storage.layers.layer_store import LayerStore
from services.storage.layers.unverified import Suspects
from services.storage.layers.usage_cache import Counters
from services.storage.roots.root_store import ContainerStore, Mapped
from services.storage.trees import passwd, usage
from services.storage.trust.gate import Court

_REST = 20
"""Measuring rests this many times as long as it works."""
_LOG = logging.getLogger(__name__)
_K = TypeVar("_K")
_T = TypeVar("_T")


async def create(config: Config) -> StorageService:
    """The worker's entry point."""
    service = StorageService(config)
    service.begin()
    return service


class StorageService:
    """Contract `kernel.contracts.storage`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._paths = config.paths
        self._layers = LayerStore(config)
        self._containers = ContainerStore(config, self._layers)
        self._checker = Checker(config, self._layers)
        self._exporter = Exporter(config, self._layers)
        self._suspects = Suspects(config.paths.layers.parent, self._layers)
        self._counters = Counters()
        self._checkpoints = Checkpoints(config)
        self._tasks = Tasks()
        self._court = Court(config, self._tasks)
        self._layer_locks: KeyedLock[DiffId] = KeyedLock()
        self._container_locks: KeyedLock[ContainerId] = KeyedLock()
        self._claims = asyncio.Lock()
        """Held while a layer is claimed by a container, or found to be claimed by none and taken away."""
        self._unpacks: Joins[DiffId, Usage] = Joins(self._tasks)
        self._checks: Joins[CheckRequest, Checked] = Joins(self._tasks)
        self._mounts: Joins[MountRequest, Mounted] = Joins(self._tasks)
        self._unmounts: Joins[ContainerId, Nothing] = Joins(self._tasks)
        self._diffs: Joins[ContainerId, Nothing] = Joins(self._tasks)
        self._restores: Joins[RestoreRequest, Nothing] = Joins(self._tasks)
        self._removals: Joins[DiffId, Nothing] = Joins(self._tasks)
        self._sweeps: Joins[str, Nothing] = Joins(self._tasks)
        self._loads: Joins[str, None] = Joins(self._tasks)
        self._measures: Joins[ContainerId, Usage] = Joins(self._tasks)
        self._refreshes: Joins[str, None] = Joins(self._tasks)

    def begin(self) -> None:
        """Start what runs beside all calls: suspect layers are checked, the policy is read; nothing waits for that."""
        self._tasks.start(self._court.announce(), "read the policy for signatures")
        self._exporter.clear()
        self._settling = self._tasks.start(self._settle(), "check suspect layers")
        self._driver = self._tasks.start(self._choose_driver(), "choose the driver")

    async def _choose_driver(self) -> str:
        """Overlays, if the configuration and the kernel let us; else copies."""
        wanted = self._config.storage.driver
        why = "" if wanted == "vfs" else await asyncio.to_thread(self._containers.try_overlay)
        if why and wanted == "overlay":
            _LOG.error("containers cannot get a root file system: %s", why)
        elif why or wanted == "vfs":
            why = why or "the configuration says vfs"
            _LOG.warning("containers get copies of their layers: %s", why)
            self._containers.no_overlay = why
        return "vfs" if self._containers.no_overlay else "overlay"

    async def close(self) -> None:
        """End what is under way; it leaves nothing but what INVENTORY tells."""
        await self._tasks.close()
        self._court.close()
        self._layers.close()
        await asyncio.to_thread(self._suspects.end)

    async def unpack(self, request: UnpackRequest, call: Call) -> Usage:
        """Make a layer from its blob, once."""
        diff_id = DiffId(digest(request.layer.diff_id))
        return await _join(self._unpacks, diff_id, lambda: self._unpack(request), f"unpack {diff_id}")

    async def _unpack(self, request: UnpackRequest) -> Usage:
        diff_id = request.layer.diff_id
        await self._believe((diff_id,))
        async with self._layer_locks.hold(diff_id):
            there = await asyncio.to_thread(self._layers.find, diff_id)
            if there is not None:
                return Usage(bytes=there.bytes, inodes=there.inodes)
            unpacked = await self._layers.unpack(request.layer, Deadline.after(storage.UNPACK.deadline))
            self._counters.layer_is(diff_id, unpacked)
        await self._sweep_replaced()
        return unpacked

    async def _sweep_replaced(self) -> None:
        if self._layers.replaced:
            async with self._claims:
                for name in tuple(self._layers.replaced):
                    await asyncio.to_thread(self._layers.sweep, name, self._containers.user_of)

    async def check(self, request: CheckRequest, call: Call) -> Checked:
        """Read all of a layer, once for all who ask at the same time."""
        digest(request.diff_id)
        return await self._checked(request)

    async def _checked(self, request: CheckRequest) -> Checked:
        return await _join(self._checks, request, lambda: self._check(request), f"check {request.diff_id}")

    async def _check(self, request: CheckRequest) -> Checked:
        diff_id = request.diff_id
        async with self._layer_locks.hold(diff_id):
            found = await self._checker.check(diff_id, Deadline.after(storage.CHECK.deadline))
            if found.state is LayerState.DAMAGED and request.drop:
                _LOG.warning("layer %s is damaged and has to be fetched again: %s", diff_id, found.why)
                await asyncio.to_thread(self._layers.drop, diff_id)
                self._counters.layer_is(diff_id, None)
            if diff_id in self._suspects.pending and (found.state is not LayerState.DAMAGED or request.drop):
                await asyncio.to_thread(self._suspects.cleared, diff_id)
        return found

    async def export(self, request: ExportRequest, call: Call) -> Exported:
        """Make a layer's tar again."""
        diff_id = DiffId(digest(request.diff_id))
        async with self._layer_locks.hold(diff_id):
            deadline = Deadline.after(storage.EXPORT.deadline)
            return Exported(size=await self._exporter.export(diff_id, request.name, deadline))

    async def settle(self, request: Nothing, call: Call) -> Nothing:
        """Wait until no layer is suspect."""
        await asyncio.shield(self._settling)
        return Nothing()

    async def _settle(self) -> None:
        for diff_id in self._suspects.pending:
            try:
                await self._believe((diff_id,))
            except CrispError as error:  # it stays suspect, and is asked again when it is wanted
                _LOG.warning("%s", error)

    async def _believe(self, layers: tuple[DiffId, ...]) -> None:
        """Have those of the layers checked that are suspect; a damaged one is dropped."""
        for diff_id in dict.fromkeys(layers):
            if diff_id in self._suspects.pending:
                await self._checked(CheckRequest(diff_id=diff_id, drop=True))

    async def layers(self, request: Nothing, call: Call) -> Layers:
        """Every whole layer."""
        found = await asyncio.to_thread(self._layers.all)
        return Layers(
            layers={diff_id: Usage(bytes=record.bytes, inodes=record.inodes) for diff_id, record in found.items()}
        )

    async def remove_layer(self, request: LayerRequest, call: Call) -> Nothing:
        """Delete a layer that no container uses."""
        diff_id = DiffId(digest(request.diff_id))
        return await _join(self._removals, diff_id, lambda: self._remove_layer(diff_id), f"remove {diff_id}")

    async def _remove_layer(self, diff_id: DiffId) -> Nothing:
        async with self._layer_locks.hold(diff_id):
            async with self._claims:
                aside = await asyncio.to_thread(self._take_away, diff_id)
            self._counters.layer_is(diff_id, None)
            if aside is not None:
                await asyncio.to_thread(self._layers.discard, aside)
        return Nothing()

    def _take_away(self, diff_id: DiffId) -> Path | None:
        user = self._containers.user_of(diff_id)
        if user is not None:
            raise FailedPrecondition(
                f"layer {diff_id} is used by container {user}", hint="remove the container before its image"
            )
        return self._layers.remove(diff_id)

    async def mount(self, request: MountRequest, call: Call) -> Mounted:
        """Mount a container's root and read its user and group files."""
        container_id(request.container)
        return await _join(self._mounts, request, lambda: self._mount(request), f"mount {request.container}")

    async def _mount(self, request: MountRequest) -> Mounted:
        container = request.container
        await asyncio.shield(self._driver)
        await self._believe((*request.layers, *(layer for volume in request.volumes for layer in volume)))
        async with self._container_locks.hold(container):
            async with self._claims:
                await asyncio.to_thread(self._containers.claim, container, request.layers, request.volumes)
            mapped = self._mapped(request)
            if not await asyncio.to_thread(self._containers.is_mounted, container):
                new = await asyncio.to_thread(self._containers.mount, container, request.layers, request.label, mapped)
                self._counters.container_is(container, usage.NEW, time.monotonic() if new else -inf)
            if request.volumes:
                await asyncio.to_thread(
                    self._containers.mount_volumes, container, request.volumes, request.label, mapped
                )
            return await asyncio.to_thread(_read_accounts, self._paths.rootfs(container))

    def _mapped(self, request: MountRequest) -> Mapped | None:
        if request.user_namespace is None or request.id_map is None:
            return None
        pin = self._paths.pod_namespace(sandbox_id(request.user_namespace), "user")
        return Mapped(namespace=pin, ids=request.id_map)

    async def unmount(self, request: ContainerRequest, call: Call) -> Nothing:
        """Unmount a container's root and delete its writable layer."""
        container = container_id(request.container)
        return await _join(self._unmounts, container, lambda: self._unmount(container), f"unmount {container}")

    async def _unmount(self, container: ContainerId) -> Nothing:
        async with self._container_locks.hold(container):
            await asyncio.to_thread(self._containers.remove, container)
            self._counters.container_is(container, None, 0)
        await self._sweep_replaced()
        return Nothing()

    async def usage(self, request: ContainerRequest, call: Call) -> Usage:
        """The size of a container's writable layer: what is known, or a new look where that is old."""
        container = container_id(request.container)
        known = self._counters.fresh(container, time.monotonic())
        return known or await self._measured(container)

    async def _measured(self, container: ContainerId) -> Usage:
        return await _join(self._measures, container, lambda: self._measure(container), f"measure {container}")

    async def _measure(self, container: ContainerId) -> Usage:
        try:
            found = await asyncio.to_thread(self._containers.measure, container)
        except NotFound:
            self._counters.container_is(container, None, 0)
            raise
        self._counters.container_is(container, found, time.monotonic())
        return found

    async def write_diff(self, request: ContainerRequest, call: Call) -> Nothing:
        """What a frozen container changed in its root."""
        container = container_id(request.container)
        return await _join(self._diffs, container, lambda: self._write_diff(container), f"diff of {container}")

    async def _write_diff(self, container: ContainerId) -> Nothing:
        async with self._container_locks.hold(container):
            upper, lower = self._containers.parts(container)
            folder = self._paths.checkpoint(container)
            await asyncio.to_thread(self._checkpoints.write_diff, upper, lower, folder)
        return Nothing()

    async def describe(self, request: Checkpoint, call: Call) -> Descriptions:
        """What a checkpoint is of."""
        deadline = call.deadline.earlier(storage.DESCRIBE.deadline)
        if request.archive:
            return await self._checkpoints.describe(request.archive, self._containers.nothing, deadline)
        return await asyncio.to_thread(checkpoint.describe_layers, self._layers.folders(request.layers))

    async def restore(self, request: RestoreRequest, call: Call) -> Nothing:
        """Take a checkpoint in."""
        container_id(request.container)
        return await _join(
            self._restores, request, lambda: self._restore(request), f"checkpoint of {request.container}"
        )

    async def _restore(self, request: RestoreRequest) -> Nothing:
        container, source, deadline = request.container, request.checkpoint, Deadline.after(storage.RESTORE.deadline)
        folder = self._paths.checkpoint(container)
        async with self._container_locks.hold(container):
            if not await asyncio.to_thread(self._containers.is_mounted, container):
                raise FailedPrecondition(f"container {container} has no root file system to restore")
            if source.archive:
                await self._checkpoints.take_in(source.archive, folder, deadline)
            else:
                await asyncio.to_thread(checkpoint.copy_layers, self._layers.folders(source.layers), folder)
            await self._checkpoints.apply(folder, self._paths.rootfs(container), deadline)
        return Nothing()

    async def fs_info(self, request: Nothing, call: Call) -> FsInfo:
        """What images and what writable layers take, as counted; what is old is found anew beside this."""
        if not self._counters.loaded:
            await _join(self._loads, "", self._load_counters, "load counters")
        if not self._refreshes.running("") and self._counters.due(time.monotonic()) is not None:
            self._refreshes.begin("", self._refresh(), "measure writable layers")
        return FsInfo(
            images_mountpoint=str(self._paths.layers),
            images=self._counters.layers,
            containers_mountpoint=str(self._paths.containers),
            containers=self._counters.containers,
            driver=await asyncio.shield(self._driver),
        )

    async def _load_counters(self) -> None:
        layers = (await self.layers(Nothing(), cast("Call", None))).layers
        self._counters.load(layers, await asyncio.to_thread(self._containers.all))

    async def _refresh(self) -> None:
        while (container := self._counters.due(time.monotonic())) is not None:
            begun = time.monotonic()
            with suppress(NotFound):  # removed meanwhile
                await self._measured(container)
            await asyncio.sleep((time.monotonic() - begun) * _REST)  # not a wait: disk and CPU are others' too

    async def judge(self, request: JudgeRequest, call: Call) -> Nothing:
        """Whether the policy for signatures accepts an image."""
        await self._court.judge(request)
        return Nothing()

    async def inventory(self, request: Nothing, call: Call) -> Inventory:
        """What is on the host."""
        return await asyncio.to_thread(self._inventory)

    def _inventory(self) -> Inventory:
        return Inventory(
            layers=tuple(self._layers.all()),
            containers=tuple(self._containers.all()),
            mounted=tuple(self._containers.mounted()),
            partial=(*self._unused(self._layers.partial()), *self._containers.partial()),
        )

    def _unused(self, names: list[str]) -> Iterator[str]:
        """Without the damaged layers that a container still has: these go with it."""
        for name in names:
            diff_id = self._layers.layer_of(name)
            if diff_id is None or self._containers.user_of(diff_id) is None:
                yield name

    async def sweep(self, request: Nothing, call: Call) -> Nothing:
        """Delete left-overs."""
        return await _join(self._sweeps, "", self._sweep, "sweep")

    async def _sweep(self) -> Nothing:
        async with self._claims:
            await asyncio.to_thread(self._delete_partial)
        return Nothing()

    def _delete_partial(self) -> None:
        for name in self._layers.partial():
            self._layers.sweep(name, used=self._containers.user_of)
        for name in self._containers.partial():
            self._containers.discard(name)


def _read_accounts(root: Path) -> Mounted:
    return Mounted(passwd=passwd.read_in_root(root, "etc/passwd"), group=passwd.read_in_root(root, "etc/group"))


async def _join(joins: Joins[_K, _T], key: _K, attempt: Callable[[], Coroutine[object, object, _T]], name: str) -> _T:
    """The result of the attempt under way for `key`, or of a new one."""
    if not joins.running(key):
        joins.begin(key, attempt(), name)
    return await joins.wait(key)
