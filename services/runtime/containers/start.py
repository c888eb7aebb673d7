"""Lets a created container's process run, or restores its processes from a checkpoint.

Run by the runtime worker. Rule kept: exactly one process is ever started. `starting` is on disk before the OCI runtime
is called; if the worker died right then, the OCI runtime's own state decides whether the process runs already.
"""

from __future__ import annotations

import asyncio
import time

from kernel.errors import FailedPrecondition, Internal
from kernel.host.aio import Deadline
from services.runtime.checkpoints import restore
from services.runtime.context import Context
from services.runtime.pods.pod_state import Pod
from services.runtime.programs import conmon
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records.container import Container


async def run_once(container: Container, runtime: OciRuntime, deadline: Deadline) -> None:
    """Let the container's process run; one that runs is success. After an error it may be started again."""
    if container.state.phase == "starting" and await runtime.state(container.id, deadline) != "created":
        container.change(phase="started")
    if container.state.phase == "started":
        return
    _check_not_ended(container)
    container.change(phase="starting", started_at=time.time_ns())
    try:
        await runtime.start(container.id, container.bundle.runtime_log, deadline)
    except Internal:
        container.change(phase="created", started_at=0)
        raise
    container.change(phase="started")


async def restore_processes(
    context: Context, pod: Pod, container: Container, runtime: OciRuntime, enter: conmon.Enter, deadline: Deadline
) -> None:
    """Start a container by restoring its processes; after an error it may be started again."""
    _check_not_ended(container)
    container.change(phase="starting", started_at=time.time_ns())
    try:
        restored = await restore.start(context, pod.request, container, runtime, enter, deadline)
    except Exception:
        await restore.undo(context, container, runtime)
        container.change(phase="created", started_at=0)
        raise
    container.change(
        phase="started", process=restored.process, conmon=restored.conmon, inner_cgroup=restored.inner_cgroup
    )
    await asyncio.to_thread(restore.forget, context, container.id)


def _check_not_ended(container: Container) -> None:
    if container.exited.is_set():
        raise FailedPrecondition(f"container {container.id} ended before it was started")
