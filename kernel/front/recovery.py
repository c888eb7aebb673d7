"""Start-up of the front: load the records, watch the facts, finish or undo what a crash cut off, sweep.

1. The records are loaded before the first RPC is served; those of another boot are not ready.
2. Flows that were cut off go on side by side in the waves of `kernel.state.intents`, under the same keys as new
   ones: a repeat of the kubelet's joins them. One that fails is tried again in the background.
3. Orphans are swept last, and only what no flow can be about to use: inventories are taken before the records are
   looked at, and what is made meanwhile has its intent by then.
"""

from __future__ import annotations

import asyncio
import logging
import time

import msgspec

from kernel.contracts.contract import Nothing
from kernel.contracts.records import IntentKind, SandboxState
from kernel.contracts.supervisor import LOAD, Commit
from kernel.errors import CrispError
from kernel.front import flows, watches
from kernel.front.containers import checkpoint, create, remove
from kernel.front.context import FLOW_SECONDS, Front
from kernel.front.images import image_service, pull_flow, repair
from kernel.front.node import doctor
from kernel.front.pods import sandboxes
from kernel.front.requests import pod_config
from kernel.front.responses import views
from kernel.front.sessions import clients
from kernel.host.aio import Deadline
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
    front.tasks.start(recover(front), "recover")
    front.tasks.start(repair.watch(front), "complete images")
    image_service.measure_again(front)


async def recover(front: Front) -> None:
    """Finish or undo every flow that was cut off, then sweep."""
    for wave in plan_flows(front.replica.snapshot(), front.boot_id):
        await asyncio.gather(*(_go_on(front, flow) for flow in wave))
    await sweep(front)


async def sweep(front: Front) -> None:
    """Take away what belongs to no record; what fails stays for `crisp doctor`."""
    deadline = Deadline.after(_SWEEP_SECONDS)
    found = await doctor.examine(front, deadline)
    for worker, why in found.silent.items():
        _LOG.warning("nothing is swept of the %s worker, which could not be asked: %s", worker, why)
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
    """One flow; a failure is logged here, and tried again where the flow itself does not."""
    if front.replica.intents.get(flow.intent.id) is not flow.intent:
        return  # the kubelet's repeat has taken it up meanwhile
    _LOG.info("%s", flow.describe())
    try:
        await _course(front, flow)
    except CrispError as error:
        _LOG.warning("%s: %s", flow.describe(), error)


async def _course(front: Front, flow: Flow) -> None:
    name, deadline = flow.intent.id, Deadline.after(FLOW_SECONDS)
    match flow.intent.kind:
        case IntentKind.RUN_SANDBOX if flow.course is Course.FINISH:
            await _run_sandbox(front, SandboxId(name), deadline)
        case IntentKind.RUN_SANDBOX | IntentKind.REMOVE_SANDBOX:
            await _remove_sandbox(front, SandboxId(name), deadline)
        case IntentKind.STOP_SANDBOX:
            sandbox = SandboxId(name)
            await flows.join(front, ("stop", name), lambda: sandboxes.stop(front, sandbox, deadline))
        case IntentKind.CREATE_CONTAINER if flow.course is Course.FINISH:
            await _create_container(front, ContainerId(name), deadline)
        case IntentKind.CREATE_CONTAINER | IntentKind.REMOVE_CONTAINER:
            await _remove_container(front, ContainerId(name), deadline)
        case IntentKind.PULL_IMAGE | IntentKind.REMOVE_IMAGE:
            async with front.locks.hold(name):
                if front.replica.intents.get(name) is flow.intent:
                    await pull_flow.release(front, flow.intent, deadline)


async def _run_sandbox(front: Front, sandbox: SandboxId, deadline: Deadline) -> None:
    record = front.replica.sandboxes[sandbox]
    join = (record.name, record.namespace, record.uid, str(record.attempt))
    if not front.runs.running(join):
        plan = pod_config.plan_pod(sandbox, views.pod_config(record), record.handler, front.config.runtime.handlers)
        front.runs.begin(join, sandboxes.run(front, record, plan, deadline), f"run {sandbox[:13]}")
    await front.runs.wait(join)


async def _remove_sandbox(front: Front, sandbox: SandboxId, deadline: Deadline) -> None:
    if sandbox in front.replica.sandboxes:
        await flows.join(front, ("remove", sandbox), lambda: sandboxes.remove(front, sandbox, deadline))
        return
    await sandboxes.release(front, sandbox, deadline, network_up=True)
    await front.replica.commit(Commit(end=(sandbox,)), deadline)


async def _create_container(front: Front, container: ContainerId, deadline: Deadline) -> None:
    record = front.replica.containers[container]
    join = (record.sandbox, record.name, str(record.attempt))
    if not front.creates.running(join):
        pod = front.replica.sandboxes.get(record.sandbox)
        ready = pod is not None and pod.state is SandboxState.READY and not front.replica.leaving(pod.id)
        if not ready or record.image_id not in front.replica.images:
            await _remove_container(front, container, deadline)
            return
        create.begin(front, record, create.plan_again(front, record), deadline)
    await front.creates.wait(join)


async def _remove_container(front: Front, container: ContainerId, deadline: Deadline) -> None:
    if container in front.replica.containers:
        await flows.join(front, ("remove", container), lambda: remove.remove(front, container, deadline))
        return
    await remove.release(front, container, deadline)
    await front.replica.commit(Commit(end=(container,)), deadline)
