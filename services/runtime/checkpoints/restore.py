"""Starts a container by restoring the processes of a checkpoint, through conmon and the OCI runtime's `restore`.

Run by the runtime worker. Until its start such a container has a bundle and no process, because CRIU makes processes
that run at once. The bundle is made from the request alone; the processes, with their memory and privileges, come from
the checkpoint. Rule kept: if a worker died during a restore, the OCI runtime's state of the container decides whether
it has happened.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kernel.contracts.runtime import CreateRequest, NamespaceMode, PodRequest
from kernel.errors import FailedPrecondition, Internal, InvalidInput
from kernel.host import files, pidfd, thread
from kernel.host.aio import Deadline
from kernel.ids import ContainerId
from services.runtime.checkpoints import checkpoint_archive
from services.runtime.context import Context
from services.runtime.namespaces import namespace_pins
from services.runtime.pods import pod_request
from services.runtime.programs import conmon, container_log, criu
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records.bundle import ContainerBundle, ContainerState, PodBundle
from services.runtime.records.container import Container

_UNDO_SECONDS = 30.0
"""Seconds that the processes of a restore that failed may take to end."""
_LOG = "restore.log"
_SETTINGS = "org.criu.config"
"""The annotation that names to the OCI runtimes the configuration file that CRIU is to read."""
_NODE_SETTINGS = Path("/etc/criu/runc.conf")
"""The file that CRIU reads if the annotation names none."""


async def check(request: CreateRequest, pod: PodRequest, runtime: OciRuntime, deadline: Deadline) -> None:
    """Raise FailedPrecondition if the pod or the host cannot have a restored container."""
    what = f"container {request.container_id}: restoring it"
    if pod.user_namespace is not None:
        raise FailedPrecondition(f"{what} is not possible in a user namespace")
    await criu.check(what, runtime, deadline)


def check_mounts(request: CreateRequest, spec: Mapping[str, object]) -> None:
    """Raise InvalidInput if the checkpoint's processes had bind mounts that the container would not have. Pure."""
    mounts = spec.get("mounts")
    there = {mount["destination"] for mount in mounts} if isinstance(mounts, list) else set[str]()
    missing = [path for path in request.restored_mounts if path not in there]
    if missing:
        raise InvalidInput(f"mounts: the container of the checkpoint had further ones: {', '.join(missing)[:1000]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The processes of a restored container, as its state records them."""

    process: pidfd.Identity | None
    """The first process; None if it has ended already."""
    conmon: pidfd.Identity | None
    inner_cgroup: str
    """The value for `ContainerState.inner_cgroup`."""


async def start(
    context: Context,
    pod: PodRequest,
    container: Container,
    runtime: OciRuntime,
    enter: conmon.Enter,
    deadline: Deadline,
) -> Restored:
    """Restore a container's processes; Internal with CRIU's reason if that fails.

    CRIU enters the pod's UTS namespace and sets the host name of the pod that was dumped: then it is set back.
    """
    made_from = await asyncio.to_thread(container.request)
    images = context.config.paths.checkpoint(container.id) / checkpoint_archive.IMAGES
    if not images.is_dir():
        raise FailedPrecondition(f"container {container.id}: its checkpoint is no longer there")
    await asyncio.to_thread(_configure, container)
    launch = conmon.Launch(
        container_id=container.id, bundle=container.bundle, runtime=runtime,
        log=await asyncio.to_thread(container_log.prepare, pod, made_from), restore=images, terminal=made_from.tty,
        stdin=made_from.stdin, stdin_once=made_from.stdin_once,
    )  # fmt: skip
    try:
        pid = await conmon.create(context.config.runtime.conmon, launch, enter, deadline)
    except Internal as error:
        reason = criu.reason(container.bundle.path / _LOG)
        raise Internal(f"container {container.id}: {error.message}{f': {reason}' if reason else ''}") from error
    if pod.network is not NamespaceMode.NODE:
        uts = PodBundle(context.root, pod.sandbox_id).uts
        await thread.run(lambda: namespace_pins.set_hostname(uts, pod_request.host_name(pod)), deadline, "host name")
    process = pidfd.identify(pid)
    return Restored(
        process=process,
        conmon=conmon.running(container.bundle),
        inner_cgroup=context.cgroups.inner(container.state.cgroup, pid) if process else "",
    )


def criu_settings(before: str, cgroup: str) -> str:
    """Return CRIU's configuration file: the node's own settings, and this container's cgroup for the processes instead
    of the one that they were dumped in. Pure."""
    return f"{before.rstrip()}\ncgroup-root {cgroup}\n".lstrip()


def _configure(container: Container) -> None:
    """Write a configuration file for CRIU into the bundle, and the annotation by which the OCI runtime finds it."""
    config = container.bundle.config
    place = container.bundle.path / "criu.conf"
    try:
        spec = msgspec.json.decode(config.read_bytes(), type=dict[str, object])
        annotations = spec.get("annotations")
        known = annotations if isinstance(annotations, dict) else {}
        given = Path(known.get(_SETTINGS, "")) if known.get(_SETTINGS) != str(place) else _NODE_SETTINGS
        node = given if given.is_absolute() else _NODE_SETTINGS
        before = node.read_text() if node.is_file() else ""
        files.replace(place, criu_settings(before, container.state.cgroup).encode(), durable=False)
        changed = {**spec, "annotations": {**known, _SETTINGS: str(place)}}
        files.replace(config, msgspec.json.encode(changed), durable=False)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise Internal(f"container {container.id}: settings for CRIU: {error}") from error


async def undo(context: Context, container: Container, runtime: OciRuntime) -> None:
    """Remove all that a failed restore left, except the bundle and the checkpoint."""
    deadline = Deadline.after(_UNDO_SECONDS)
    await pidfd.kill(await asyncio.to_thread(conmon.strays, container.bundle), _UNDO_SECONDS)
    await context.cgroups.kill([container.state.conmon_cgroup, container.state.cgroup], deadline)
    await runtime.delete(container.id, deadline)


def forget(context: Context, container_id: ContainerId) -> None:
    """Delete a checkpoint that was restored. One that cannot be deleted goes with the container."""
    shutil.rmtree(context.config.paths.checkpoint(container_id), ignore_errors=True)


def was_cut_off(state: ContainerState) -> bool:
    """Return whether a worker died while it restored the container. Pure."""
    return state.restores and state.phase == "starting" and state.process is None


async def adopt(folder: ContainerBundle, state: ContainerState, runtime: OciRuntime | None) -> ContainerState:
    """Return the state of a container whose restore was cut off: started if it runs, else as it was before."""
    deadline = Deadline.after(_UNDO_SECONDS)
    known = await runtime.state(folder.id, deadline) if runtime else "gone"
    process = _process(folder.pid_file) if known == "running" else None
    if process is None:
        await pidfd.kill(await asyncio.to_thread(conmon.strays, folder), _UNDO_SECONDS)
        if runtime is not None:
            await runtime.delete(folder.id, deadline)
        found = msgspec.structs.replace(state, phase="created", started_at=0)
    else:
        found = msgspec.structs.replace(state, phase="started", process=process, conmon=conmon.running(folder))
    folder.state.write(found)
    return found


def _process(file: Path) -> pidfd.Identity | None:
    try:
        text = file.read_text().strip()
    except OSError:  # the OCI runtime was stopped before it wrote one
        return None
    return pidfd.identify(int(text)) if text.isdigit() else None
