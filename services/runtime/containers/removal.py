"""Removes a container, however far it came: its processes, cgroups, mounts, bundle and the OCI runtime's state of it.

Run by the runtime worker. Its log and its root file system are not touched: they belong to the kubelet and to storage.
"""

from __future__ import annotations

import asyncio

from kernel.host import pidfd
from kernel.host.aio import Deadline
from kernel.ids import ContainerId
from services.runtime.cgroups import cgroup_path
from services.runtime.cgroups.made_cgroups import MadeCgroups
from services.runtime.containers import monitors
from services.runtime.context import Context
from services.runtime.namespaces import mapped_mounts
from services.runtime.pods.pod_table import Pods
from services.runtime.programs import conmon
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records import bundle
from services.runtime.records.bundle import ContainerBundle, ContainerState

_UNDO_SECONDS = 30.0
"""Seconds that processes may take to end after SIGKILL, and the OCI runtime to forget the container."""


async def undo(
    context: Context, made_cgroups: MadeCgroups, folder: ContainerBundle, state: ContainerState | None
) -> None:
    """Remove all of a container. `state` is None if it cannot be read, and no cgroup of the container is there."""
    deadline = Deadline.after(_UNDO_SECONDS)
    if state is None or state.phase == "creating":
        # its conmon may still be outside its cgroup, and about to create the container
        await pidfd.kill(await asyncio.to_thread(conmon.strays, folder), _UNDO_SECONDS)
    if state is not None:
        await context.cgroups.kill([state.conmon_cgroup, state.cgroup], deadline)
    runtime = context.runtimes.get(state.handler) if state is not None else None
    if state is not None and runtime is not None and _needs_delete(state):
        await runtime.delete(folder.id, deadline)
    await asyncio.to_thread(_remove_parts, context, made_cgroups, folder, state, runtime)


def _remove_parts(
    context: Context, made_cgroups: MadeCgroups, folder: ContainerBundle, state: ContainerState | None,
    runtime: OciRuntime | None,
) -> None:  # fmt: skip
    if state is not None:
        for path in (state.cgroup, state.conmon_cgroup):
            context.cgroups.remove(path)
        parent = monitors.parent_of(state.conmon_cgroup)
        if parent != monitors.parent_of(state.cgroup):
            made_cgroups.remove(parent)
    if runtime is not None:
        runtime.forget(folder.id)
    mapped_mounts.remove(context.root, folder.id)
    bundle.remove(folder.path)


def _needs_delete(state: ContainerState) -> bool:
    """Return whether the OCI runtime must delete the container.

    It must if systemd has a scope of it, hooks are to be run, or its creation was cut off. Otherwise it is enough, and
    quicker, to remove the OCI runtime's state folder.
    """
    return state.cgroup.endswith(".scope") or state.poststop or state.phase == "creating"


def assumed_state(context: Context, pods: Pods, container_id: ContainerId) -> ContainerState | None:
    """Return the state that a container without a readable one must have, by the cgroups that it has in some pod.

    None if it has a cgroup in no pod: then it has no process either.
    """
    for pod in pods.all():
        handler = pod.request.handler or context.config.runtime.default_handler
        runtime = context.runtimes.get(handler)
        above = cgroup_path.monitors(runtime.settings.conmon_cgroup if runtime else "", pod.cgroup)
        cgroup, conmon_cgroup = pod.cgroup.container(container_id), above.conmon(container_id)
        if context.cgroups.exists(cgroup) or context.cgroups.exists(conmon_cgroup):
            return ContainerState(
                phase="creating", sandbox_id=pod.id, handler=handler, cgroup=cgroup, conmon_cgroup=conmon_cgroup
            )  # fmt: skip
    return None
