"""Start-up of the front: load the records, start the watches, finish or undo what a crash cut off, sweep.

1. The records are loaded before the first RPC is served; those of another boot are not ready.
2. Flows that were cut off go on side by side in the waves of `kernel.state.intents`, under the same keys as new
   ones: a repeat of the kubelet's joins them. One that fails is tried again in the background.
3. Orphans are swept last, and only those that no flow can be about to use: inventories are taken before the records
   are looked at, and what is made meanwhile has its intent by then.
"""

from __future__ import annotations

import asyncio
import logging
import time

import msgspec

from kernel.contracts.definition import Nothing
from kernel.contracts.records import IntentKind
from kernel.contracts.supervisor import LOAD, Commit
from kernel.errors import CrispError
from kernel.front import flows, watches
from kernel.front.containers import checkpoint, create
from kernel.front.containers import remove as container_remove
from kernel.front.context import FLOW_SECONDS, Front
from kernel.front.images import fs_info, layer_release, repair
from kernel.front.node import doctor
from kernel.front.pods import remove as pod_remove
from kernel.front.pods import run as pod_run
from kernel.front.pods import stop as pod_stop
from kernel.front.sessions import clients
from kernel.host.aio import FAILURES, Deadline
from kernel.ids import ContainerId, SandboxId
from kernel.state.intents import Course, Flow, plan_flows
from kernel.state.recover import Evidence, plan_repairs

_LOG = logging.getLogger(__name__)
_LOAD_SECONDS = 30.0
_SWEEP_SECONDS = 120.0


async def load(front: Front) -> None:
    """Fill the replica from the state on disk."""
    deadline = Deadline.after(_LOAD_SECONDS)
    snapshot = await front.supervisor.call(LOAD, Nothing(), deadline=deadline)
    front.replica.load(snapshot)
    front.subscribers.begin(msgspec.structs.replace(front.replica.snapshot(), gone=snapshot.gone))
    front.replica.on_change = lambda changes: front.subscribers.changed(front.replica, changes)
    repairs = plan_repairs(front.replica.snapshot(), Evidence(boot_id=front.boot_id, now=time.time_ns()))
    if repairs.sandboxes:
        await front.replica.commit(repairs.commit(), deadline)


def begin(front: Front) -> None:
    """Start the watches and the flows that were cut off."""
    watches.begin(front, checkpoint.thaw_forgotten)
    clients.begin(front)
    front.tasks.spawn(recover(front), "recover")
    front.tasks.spawn(repair.watch(front), "complete images")
    fs_info.measure_again(front)


async def recover(front: Front) -> None:
    """Finish or undo every flow that was cut off, then sweep. A failure of one flow does not affect the others."""
    for wave in plan_flows(front.replica.snapshot(), front.boot_id):
        tasks = [front.tasks.run(_go_on(front, flow), flow.describe()) for flow in wave]
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                FAILURES.report(task.get_name(), error)
    await sweep(front)


async def sweep(front: Front) -> None:
    """Remove the things that belong to no record; those that cannot be removed stay for `crisp doctor`."""
    deadline = Deadline.after(_SWEEP_SECONDS)
    found = await doctor.examine(front, deadline)
    for worker, reason in found.silent.items():
        _LOG.warning("nothing is swept of the %s worker, which did not answer: %s", worker, reason)
    for orphan in found.orphans:
        if not doctor.certain(front, orphan):
            _LOG.warning("left alone: %s", orphan.describe())
            continue
        try:
            await doctor.mend(front, orphan, deadline)
            _LOG.info("swept: %s", orphan.describe())
        except CrispError as error:
            _LOG.warning("not swept: %s: %s", orphan.describe(), error)


async def _go_on(front: Front, flow: Flow) -> None:
    """Finish or undo one flow, unless a repeat by the kubelet has joined it meanwhile."""
    about, deadline = flow.intent.id, Deadline.after(FLOW_SECONDS)
    if front.replica.intents.get(about) is not flow.intent:
        return
    _LOG.info("%s", flow.describe())
    match flow.intent.kind:
        case IntentKind.RUN_SANDBOX if flow.course is Course.FINISH:
            await pod_run.run_again(front, front.replica.sandboxes[SandboxId(about)], deadline)
        case IntentKind.RUN_SANDBOX | IntentKind.REMOVE_SANDBOX:
            await _remove_sandbox(front, SandboxId(about), deadline)
        case IntentKind.STOP_SANDBOX:
            await flows.join(front, ("stop", about), lambda: pod_stop.stop(front, SandboxId(about), deadline))
        case IntentKind.CREATE_CONTAINER if flow.course is Course.FINISH:
            await create.create_again(front, front.replica.containers[ContainerId(about)], deadline)
        case IntentKind.CREATE_CONTAINER | IntentKind.REMOVE_CONTAINER:
            await _remove_container(front, ContainerId(about), deadline)
        case IntentKind.PULL_IMAGE | IntentKind.REMOVE_IMAGE:
            async with front.locks.hold(about):
                if front.replica.intents.get(about) is flow.intent:
                    await layer_release.release(front, flow.intent, deadline)


async def _remove_sandbox(front: Front, sandbox_id: SandboxId, deadline: Deadline) -> None:
    if sandbox_id in front.replica.sandboxes:
        await flows.join(front, ("remove", sandbox_id), lambda: pod_remove.remove(front, sandbox_id, deadline))
        return
    await pod_remove.release(front, sandbox_id, deadline, network_up=True)
    await front.replica.commit(Commit(end=(sandbox_id,)), deadline)


async def _remove_container(front: Front, container_id: ContainerId, deadline: Deadline) -> None:
    if container_id in front.replica.containers:
        await flows.join(
            front, ("remove", container_id), lambda: container_remove.remove(front, container_id, deadline)
        )
        return
    await container_remove.release(front, container_id, deadline)
    await front.replica.commit(Commit(end=(container_id,)), deadline)
