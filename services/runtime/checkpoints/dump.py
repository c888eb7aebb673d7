"""Checkpoints of running containers: frozen, dumped by CRIU, thawed, and written out as one archive.

Run by the runtime worker on its event loop. A container is frozen from the dump until storage has read its changed
files too, so that memory and files agree. Rules kept: `checkpoint.json` is written before a container is frozen; it is
thawed when the archive is written, when anything fails, when `seal` is not called in time, and by the next worker if
this one dies. The dump lies in `Paths.checkpoint`, and is deleted at the end.
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
from kernel.errors import CrispError, FailedPrecondition, Internal, Unavailable, from_os
from kernel.host import files, thread
from kernel.host.aio import Deadline, Joins, Spawned
from kernel.ids import ContainerId, short
from services.runtime.checkpoints import checkpoint_archive, target
from services.runtime.context import Context
from services.runtime.pods.pod_table import Pods
from services.runtime.programs import criu
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records.bundle import CheckpointMark
from services.runtime.records.container import Container

_LOG = logging.getLogger(__name__)
_THAW_SECONDS = 30.0
"""Seconds that the OCI runtime may take to freeze or thaw a container."""
_UNFINISHED_SECONDS = 600.0
"""Seconds that a dump which an earlier worker began may still take."""


class Checkpoints:
    """The checkpoints under way."""

    def __init__(self, context: Context, pods: Pods, runtime_of: Callable[[Container], OciRuntime]) -> None:
        self._context = context
        self._pods = pods
        self._runtime_of = runtime_of
        self._dumps: Joins[ContainerId, None] = Joins(context.tasks)
        self._leases: dict[ContainerId, Spawned] = {}
        """The tasks that thaw dumped containers at their deadlines; a dump without one is no longer good."""

    async def dump(self, container: Container, request: DumpRequest, deadline: Deadline) -> None:
        """Freeze a running container and have CRIU dump it; it stays frozen until `seal`, `thaw` or the deadline.

        FailedPrecondition if configuration, CRIU or the container do not allow it, Internal with CRIU's reason.
        """
        what = f"container {container.id}: a checkpoint"
        if self._context.config.runtime.checkpoint == "none":
            raise FailedPrecondition(f"{what} is not allowed here", hint="runtime.checkpoint is none")
        await thread.run(lambda: target.check(request.location, self._context.config), deadline, "location")
        if container.exited.is_set() or container.state.phase != "started":
            raise FailedPrecondition(f"container {container.id} is not running")
        if self._pods.get(container.state.sandbox_id).request.user_namespace is not None:
            raise FailedPrecondition(f"{what} is not possible in a user namespace")
        await criu.check(what, self._runtime_of(container), deadline)
        async with deadline.limit(f"{what}: its dump"):
            await self._dumps.join(
                container.id,
                lambda: self._dump(container, request, deadline),
                f"dump of container {short(container.id)}",
            )

    async def _dump(self, container: Container, request: DumpRequest, deadline: Deadline) -> None:
        await self._release(container)  # what an earlier attempt may have left
        runtime, folder = self._runtime_of(container), self._context.config.paths.checkpoint(container.id)
        images, log = folder / checkpoint_archive.IMAGES, container.bundle.path / "checkpoint.log"
        container.bundle.checkpoint.write(CheckpointMark(location=request.location))
        container.frozen = True
        try:
            await asyncio.to_thread(_make_folders, folder, images, log)
            await runtime.pause(container.id, Deadline.after(_THAW_SECONDS))
            await criu.dump(criu.dump_command(runtime, container.id, images, folder, log), folder, log)
        except Exception as error:
            await self._release(container)
            if isinstance(error, CrispError):
                raise type(error)(f"container {container.id}: {error.message}", hint=error.hint) from error
            raise
        if deadline.remaining() <= 0:
            await self._release(container)  # no caller waits for it any more
        else:
            self._leases[container.id] = self._context.tasks.spawn(
                self._thaw_at(container, deadline), f"thaw of container {short(container.id)}"
            )

    async def seal(self, container: Container, request: SealRequest) -> None:
        """Let a dumped container run on, and write its archive; Unavailable if the dump was cut off."""
        mark = await asyncio.to_thread(container.bundle.checkpoint.read)
        lease = self._leases.pop(container.id, None)
        if lease is not None:
            lease.cancel()
        if mark is None or lease is None:
            await self.thaw(container)
            raise Unavailable(f"container {container.id}: its dump was cut off", hint="request the checkpoint again")
        try:
            await self._runtime_of(container).resume(container.id, Deadline.after(_THAW_SECONDS))
            await asyncio.to_thread(self._write, container, request)
        finally:
            await self.thaw(container)

    async def thaw(self, container: Container) -> None:
        """Let a container run on that a checkpoint has frozen, and drop the dump. Succeeds if it is not frozen.

        A dump that is under way is waited for.
        """
        if self._dumps.running(container.id):
            with suppress(CrispError):  # its caller gets the error; a dump that fails thaws the container itself
                await self._dumps.wait(container.id)
        await self._release(container)

    async def _release(self, container: Container) -> None:
        """Thaw a container and delete its dump, if checkpoint.json is there."""
        lease = self._leases.pop(container.id, None)
        if lease is not None:
            lease.cancel()
        if not container.bundle.checkpoint.exists():
            container.frozen = False
            return
        mark = await asyncio.to_thread(container.bundle.checkpoint.read)
        folder = self._context.config.paths.checkpoint(container.id)
        await criu.finish_dumps(folder, _UNFINISHED_SECONDS)
        if not container.exited.is_set():
            runtime, deadline = self._runtime_of(container), Deadline.after(_THAW_SECONDS)
            if await runtime.state(container.id, deadline) == "paused":
                await runtime.resume(container.id, deadline)
        await asyncio.to_thread(_discard, folder, mark.location if mark else "", container.id)
        container.bundle.checkpoint.remove()
        container.frozen = False

    def recover(self, container: Container) -> None:
        """Undo a checkpoint that an earlier worker has left unfinished."""
        if container.bundle.checkpoint.exists():
            _LOG.warning("container %s: its checkpoint was cut off and is given up", short(container.id))
            self._context.tasks.spawn(self.thaw(container), f"thaw of container {short(container.id)}")

    async def _thaw_at(self, container: Container, deadline: Deadline) -> None:
        """Thaw a container at the deadline, because no event shows that the caller will not call `seal`."""
        await asyncio.sleep(max(deadline.remaining(), 0))
        self._leases.pop(container.id, None)  # before `_release` cancels it: that is this task
        _LOG.warning("container %s: its checkpoint was not requested in time and is given up", short(container.id))
        await self.thaw(container)

    def _write(self, container: Container, request: SealRequest) -> None:
        """Write the descriptions beside CRIU's files, and the archive of it all. Blocks."""
        config = self._context.config
        folder = config.paths.checkpoint(container.id)
        made_from = container.request()
        try:
            spec = msgspec.json.decode(container.bundle.config.read_bytes(), type=dict[str, object])
            parts = {
                "config.dump": checkpoint_archive.config_dump(request, container.state.handler, now=time.time_ns()),
                "spec.dump": checkpoint_archive.spec_dump(spec, made_from, request),
                "bind.mounts": checkpoint_archive.bind_mounts(spec),
            }
            for name, content in parts.items():
                files.replace(folder / name, content, durable=False)
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
        raise from_os(error, f"folder {folder} of its checkpoint") from error


def _discard(folder: Path, location: str, container_id: ContainerId) -> None:
    """Delete the dump, and what was written of the archive at the location."""
    if location:
        target.discard(location, container_id[:12])
    with suppress(FileNotFoundError):  # deleted with the container's root
        shutil.rmtree(folder)
