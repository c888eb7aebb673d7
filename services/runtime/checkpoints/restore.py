"""Starting a container by restoring the processes of a checkpoint, through conmon and the OCI runtime's `restore`.

Run by the runtime worker. Until then the container has a bundle and no process: nothing waits to be started, as CRIU
makes processes that run at once. The bundle is made of the request alone; of the checkpoint come the processes, with
their memory and privileges. Rule kept: where a worker died in between, what the OCI runtime says of it decides.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from kernel.contracts.runtime import CreateRequest, NamespaceMode, PodRequest
from kernel.errors import FailedPrecondition, Internal, InvalidInput
from kernel.host import pidfd, thread
from kernel.host.aio import Deadline
from kernel.ids import ContainerId
from services.runtime.checkpoints import checkpoint_archive
from services.runtime.context import Setting
from services.runtime.exits.watching import Container
from services.runtime.namespaces import namespace_pins
from services.runtime.pods.pod_table import host_name
from services.runtime.programs import conmon, criu
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records import bundle
from services.runtime.records.bundle import ContainerBundle, ContainerState, PodBundle

_UNDO_SECONDS = 30.0
_LOG = "restore.log"
_SETTINGS = "org.criu.config"
_NODE_SETTINGS = Path("/etc/criu/runc.conf")
"""Where the OCI runtimes look where no annotation names another file."""


async def check(request: CreateRequest, pod: PodRequest, runtime: OciRuntime, deadline: Deadline) -> None:
    """FailedPrecondition where pod or host cannot have a restored container."""
    what = f"container {request.container}: restoring it"
    if pod.user_namespace is not None:
        raise FailedPrecondition(f"{what} is not possible in a user namespace")
    await criu.check(what, runtime, deadline)


def check_mounts(request: CreateRequest, spec: Mapping[str, object]) -> None:
    """InvalidInput where the restored processes hold mounts that the container would not have. Pure."""
    mounts = spec.get("mounts")
    there = {mount["destination"] for mount in mounts} if isinstance(mounts, list) else set()
    missing = [path for path in request.restored_mounts if path not in there]
    if missing:
        raise InvalidInput(f"mounts: the checkpoint is of a container that had more: {', '.join(missing)[:1000]}")


async def start(
    setting: Setting,
    pod: PodRequest,
    container: Container,
    runtime: OciRuntime,
    enter: conmon.Enter,
    deadline: Deadline,
) -> dict[str, object]:
    """Restore a container's processes; what its state has to say of them. Internal with CRIU's reason.

    CRIU enters the pod's UTS namespace and gives it the name of the pod that was dumped: it gets its own back.
    """
    made_from = await asyncio.to_thread(container.bundle.request.read)
    if made_from is None:
        raise Internal(f"container {container.id}: its request does not read back")
    images = setting.config.paths.checkpoint(container.id) / checkpoint_archive.IMAGES
    if not images.is_dir():
        raise FailedPrecondition(f"container {container.id}: its checkpoint is not there any more")
    await asyncio.to_thread(_configure, container)
    launch = conmon.Launch(
        container=container.id, bundle=container.bundle, runtime=runtime,
        log=await asyncio.to_thread(conmon.prepare_log, pod, made_from), restore=images, terminal=made_from.tty,
        stdin=made_from.stdin, stdin_once=made_from.stdin_once,
    )  # fmt: skip
    try:
        pid = await conmon.create(setting.config.runtime.conmon, launch, enter, deadline)
    except Internal as error:
        why = criu.reason(container.bundle.path / _LOG)
        raise Internal(f"container {container.id}: {error.message}{f': {why}' if why else ''}") from error
    if pod.network is not NamespaceMode.NODE:
        uts = PodBundle(setting.root, pod.sandbox).uts
        await thread.run(lambda: namespace_pins.name(uts, host_name(pod)), deadline, "host name")
    process = pidfd.identify(pid)
    return {
        "process": process,
        "conmon": conmon.conmon_of(container.bundle),
        "inner_cgroup": setting.cgroups.inner(container.state.cgroup, pid) if process else "",
    }


def criu_settings(before: str, cgroup: str) -> str:
    """What CRIU's configuration file says: the node's own settings, and that the processes' cgroups are this
    container's, not those that they were dumped in. Pure."""
    return f"{before.rstrip()}\ncgroup-root {cgroup}\n".lstrip()


def _configure(container: Container) -> None:
    """Give CRIU a configuration file of the container's own, which the OCI runtime finds by an annotation."""
    config = container.bundle.config
    place = container.bundle.path / "criu.conf"
    try:
        spec = msgspec.json.decode(config.read_bytes(), type=dict[str, object])
        annotations = spec.get("annotations")
        said = annotations if isinstance(annotations, dict) else {}
        given = Path(said.get(_SETTINGS, "")) if said.get(_SETTINGS) != str(place) else _NODE_SETTINGS
        node = given if given.is_absolute() else _NODE_SETTINGS
        before = node.read_text() if node.is_file() else ""
        bundle.write(place, criu_settings(before, container.state.cgroup).encode())
        bundle.write(config, msgspec.json.encode({**spec, "annotations": {**said, _SETTINGS: str(place)}}))
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise Internal(f"container {container.id}: settings for CRIU: {error}") from error


async def undo(setting: Setting, container: Container, runtime: OciRuntime) -> None:
    """Leave nothing of a restore that failed but the bundle and the checkpoint."""
    deadline = Deadline.after(_UNDO_SECONDS)
    await pidfd.kill(await asyncio.to_thread(conmon.strays, container.bundle), _UNDO_SECONDS)
    await setting.cgroups.kill([container.state.conmon_cgroup, container.state.cgroup], deadline)
    await runtime.delete(container.id, deadline)


def forget(setting: Setting, container: ContainerId) -> None:
    """Delete a checkpoint that was restored."""
    shutil.rmtree(setting.config.paths.checkpoint(container), ignore_errors=True)


def was_cut_off(state: ContainerState) -> bool:
    """Whether a worker died while it restored the container. Pure."""
    return state.restores and state.phase == "starting" and state.process is None


async def adopt(folder: ContainerBundle, state: ContainerState, runtime: OciRuntime | None) -> ContainerState:
    """The state of a container whose restoring was cut off: started where it runs, else as it was before."""
    deadline = Deadline.after(_UNDO_SECONDS)
    said = await runtime.state(folder.path.name, deadline) if runtime else "gone"
    process = _pid(folder.pid_file) if said == "running" else None
    if process is None:
        await pidfd.kill(await asyncio.to_thread(conmon.strays, folder), _UNDO_SECONDS)
        if runtime is not None:
            await runtime.delete(folder.path.name, deadline)
        found = msgspec.structs.replace(state, phase="created", started_at=0)
    else:
        found = msgspec.structs.replace(state, phase="started", process=process, conmon=conmon.conmon_of(folder))
    folder.state.write(found)
    return found


def _pid(file: Path) -> pidfd.Identity | None:
    try:
        text = file.read_text().strip()
    except OSError:  # it never came so far
        return None
    return pidfd.identify(int(text)) if text.isdigit() else None
