"""Brings a planned container to the point where its process waits to be started.

Run by the runtime worker. Rules kept: state.json is written before anything that outlives this worker; conmon is in
its cgroup before it starts anything.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from kernel.contracts.runtime import CreateRequest
from kernel.errors import Internal
from kernel.host import files, pidfd, thread
from kernel.host.aio import Deadline
from services.runtime.cgroups import limit_files
from services.runtime.containers.plan import Plan
from services.runtime.context import Context
from services.runtime.namespaces import mapped_mounts
from services.runtime.pods.pod_state import Pod
from services.runtime.programs import conmon, container_log
from services.runtime.records.bundle import ContainerBundle, ContainerState


async def create(
    context: Context, pod: Pod, request: CreateRequest, plan: Plan, enter: conmon.Enter, deadline: Deadline
) -> ContainerState:
    """Write the bundle and have conmon create the container. Return its state, which is on disk too.

    A container that is to be restored gets its process at its start, not here. After an error the caller undoes
    everything.
    """
    what = f"container {request.container_id}"
    folder = ContainerBundle(context.root, request.container_id)
    log = await thread.run(lambda: _write_bundle(folder, pod, request, plan), deadline, f"{what}: bundle")
    if request.restores:
        state = msgspec.structs.replace(plan.state, phase="created", created=plan.created)
        folder.state.write(state)
        return state
    await mapped_mounts.make(plan.copies, pod.request, pod.folder.user, deadline)
    wanted = conmon.Launch(
        container_id=request.container_id, bundle=folder, runtime=context.runtimes[plan.state.handler], log=log,
        terminal=request.tty, stdin=request.stdin, stdin_once=request.stdin_once,
    )  # fmt: skip
    pid = await conmon.create(context.config.runtime.conmon, wanted, enter, deadline)
    process = pidfd.identify(pid)
    if process is None:
        raise Internal(f"{what}: its process ended before it was started")
    state = msgspec.structs.replace(
        plan.state, phase="created", process=process, conmon=conmon.running(folder),
        created=msgspec.structs.replace(plan.created, pid=pid),
        inner_cgroup=context.cgroups.inner(plan.state.cgroup, pid),
    )  # fmt: skip
    if plan.writes:
        await thread.run(
            lambda: limit_files.write(context.cgroups, state.limits_cgroup, plan.writes, what), deadline, what
        )
    folder.state.write(state)
    return state


def _write_bundle(folder: ContainerBundle, pod: Pod, request: CreateRequest, plan: Plan) -> Path | None:
    """Write the files of the bundle, the state first, and make the log. Return the path of the log, if there is one."""
    folder.exit_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.state.write(plan.state)
    folder.request.write(request)
    files.replace(folder.config, msgspec.json.encode(plan.spec), durable=False)
    return container_log.prepare(pod.request, request)
