"""Checkpoints of running containers: frozen, dumped by CRIU, thawed, and written out as one archive.

Run by the runtime worker. The container is frozen from the dump until its changed files have been read too, which is
storage's part, so that memory and files agree. Rules kept: `checkpoint.json` says so before a container is frozen; it
is thawed when the archive is written, when anything fails, when nobody asks for the archive in time, and by the next
worker where this one dies. What was gathered lies in `Paths.checkpoint` and is deleted with the end.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from kernel.contracts.runtime import DumpRequest, SealRequest
from kernel.errors import CrispError, FailedPrecondition, Internal, Unavailable
from kernel.host import thread
from kernel.host.aio import Deadline, Joins
from kernel.ids import ContainerId
from services.runtime.checkpoints import checkpoint_archive, target
from services.runtime.context import Setting
from services.runtime.exits.watching import Container
from services.runtime.pods.pod_table import Pods
from services.runtime.programs import criu
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records import bundle
from services.runtime.records.bundle import CheckpointMark

_LOG = logging.getLogger(__name__)
_THAW_SECONDS = 30.0
_UNFINISHED_SECONDS = 600.0
"""How long a dump of an earlier worker may still take."""


class Checkpoints:
    """The checkpoints under way."""

    def __init__(self, setting: Setting, pods: Pods, runtime_of: Callable[[Container], OciRuntime]) -> None:
        self._setting = setting
        self._pods = pods
        self._runtime_of = runtime_of
        self._dumps: Joins[ContainerId, None] = Joins(setting.tasks)
        self._leases: dict[ContainerId, asyncio.Task[None]] = {}

    async def dump(self, container: Container, request: DumpRequest, deadline: Deadline) -> None:
        """Freeze a running container and have CRIU dump it; it stays frozen until `seal`, `thaw` or the deadline."""
        what = f"container {container.id}: a checkpoint"
        if self._setting.config.runtime.checkpoint == "none":
            raise FailedPrecondition(f"{what} is not allowed here", hint="runtime.checkpoint says so")
        await thread.run(lambda: target.check(request.location, self._setting.config), deadline, "location")
        if container.exited.is_set() or container.state.phase != "started":
            raise FailedPrecondition(f"container {container.id} is not running")
        if self._pods.get(container.state.sandbox).request.user_namespace is not None:
            raise FailedPrecondition(f"{what} is not possible in a user namespace")
        await criu.check(what, self._runtime_of(container), deadline)
        if not self._dumps.running(container.id):
            await self.thaw(container)  # whatever an earlier attempt has left
            self._dumps.begin(container.id, self._dump(container, request, deadline), f"dump of {container.id}")
        async with deadline.limit(f"{what}: its dump"):
            await self._dumps.wait(container.id)

    async def _dump(self, container: Container, request: DumpRequest, deadline: Deadline) -> None:
        runtime, folder = self._runtime_of(container), self._setting.config.paths.checkpoint(container.id)
        images, log = folder / checkpoint_archive.IMAGES, container.bundle.path / "checkpoint.log"
        container.bundle.checkpoint.write(CheckpointMark(location=request.location))
        container.frozen = True
        try:
            await asyncio.to_thread(_make_folders, folder, images, log)
            await runtime.pause(container.id, Deadline.after(_THAW_SECONDS))
            await criu.dump(criu.dump_command(runtime, container.id, images, folder, log), folder, log)
        except CrispError as error:
            await self._release(container)
            raise type(error)(f"container {container.id}: {error.message}", hint=error.hint) from error
        if deadline.remaining() <= 0:
            await self._release(container)  # nobody waits for it any more
        else:
            self._leases[container.id] = self._setting.tasks.start(
                self._thaw_at(container, deadline), f"thaw of {container.id}"
            )

    async def seal(self, container: Container, request: SealRequest) -> None:
        """Let a dumped container run on, and write its archive."""
        mark = await asyncio.to_thread(container.bundle.checkpoint.read)
        if mark is None or self._leases.get(container.id) is None:
            await self.thaw(container)
            raise Unavailable(f"container {container.id}: its dump was cut off", hint="ask for the checkpoint again")
        self._leases.pop(container.id).cancel()
        try:
            await self._runtime_of(container).resume(container.id, Deadline.after(_THAW_SECONDS))
            await asyncio.to_thread(self._write, container, request)
        finally:
            await self.thaw(container)

    async def thaw(self, container: Container) -> None:
        """Let a container run on that a checkpoint has frozen, and drop what was gathered; none is success. A dump that
        is under way is waited for."""
        if self._dumps.running(container.id):
            with suppress(CrispError):  # it has let it run on itself, then
                await self._dumps.wait(container.id)
        await self._release(container)

    async def _release(self, container: Container) -> None:
        lease = self._leases.pop(container.id, None)
        if lease is not None and lease is not asyncio.current_task():
            lease.cancel()
        if not container.bundle.checkpoint.exists():
            container.frozen = False
            return
        mark = await asyncio.to_thread(container.bundle.checkpoint.read)
        folder = self._setting.config.paths.checkpoint(container.id)
        await criu.finish_dumps(folder, _UNFINISHED_SECONDS)
        if not container.exited.is_set():
            runtime, deadline = self._runtime_of(container), Deadline.after(_THAW_SECONDS)
            if await runtime.state(container.id, deadline) == "paused":
                await runtime.resume(container.id, deadline)
        await asyncio.to_thread(_discard, folder, mark.location if mark else "", container.id)
        container.bundle.checkpoint.remove()
        container.frozen = False

    def recover(self, container: Container) -> None:
        """Undo what an earlier worker has left of a checkpoint."""
        if container.bundle.checkpoint.exists():
            _LOG.warning("container %s: its checkpoint was cut off and is given up", container.id)
            self._setting.tasks.start(self.thaw(container), f"thaw of {container.id}")

    async def _thaw_at(self, container: Container, deadline: Deadline) -> None:
        await asyncio.sleep(max(deadline.remaining(), 0))  # a lease: nobody tells that nobody comes
        _LOG.warning("container %s: nobody asked for its checkpoint in time", container.id)
        await self.thaw(container)

    def _write(self, container: Container, request: SealRequest) -> None:
        config = self._setting.config
        folder = config.paths.checkpoint(container.id)
        made_from = container.bundle.request.read()
        if made_from is None:
            raise Internal(f"container {container.id}: its request does not read back")
        try:
            spec = msgspec.json.decode(container.bundle.config.read_bytes(), type=dict[str, object])
            parts = {
                "config.dump": checkpoint_archive.config_dump(request, container.state.handler, now=time.time_ns()),
                "spec.dump": checkpoint_archive.spec_dump(spec, made_from, request),
                "bind.mounts": checkpoint_archive.bind_mounts(spec),
            }
            for name, content in parts.items():
                bundle.write(folder / name, content)
        except (OSError, msgspec.DecodeError) as error:
            raise Internal(f"container {container.id}: its checkpoint cannot be described: {error}") from error
        with target.replacing(request.location, container.id[:12], config) as out:
            checkpoint_archive.write(folder, out)


def _make_folders(folder: Path, images: Path, log: Path) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        images.mkdir(mode=0o700)
        log.unlink(missing_ok=True)
    except OSError as error:
        raise Internal(f"folder {folder} of its checkpoint: {error.strerror}") from error


def _discard(folder: Path, place: str, container: ContainerId) -> None:
    if place:
        target.discard(place, container[:12])
    with suppress(FileNotFoundError):  # gone with the container's root
        shutil.rmtree(folder)
