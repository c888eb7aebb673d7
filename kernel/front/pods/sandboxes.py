"""RunPodSandbox, StopPodSandbox, RemovePodSandbox: spines of steps.

    run      intent → network.attach beside runtime.make_pod (after it with a user namespace) → READY
    stop     intent, NOT_READY → containers killed → runtime.stop_pod beside network.detach → network down
    remove   intent, NOT_READY → containers removed → runtime.stop_pod → network.detach beside remove_pod → gone

From the first commit of stop or remove nothing more is created in the pod; creations under way are waited for.
"""

from __future__ import annotations

import logging
import time
from contextlib import AsyncExitStack, suppress

from kernel.contracts import network, runtime
from kernel.contracts.records import IntentKind, Sandbox, SandboxState
from kernel.contracts.supervisor import Commit
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import CrispError, NotFound
from kernel.front import flows
from kernel.front.containers import remove as container_remove
from kernel.front.containers import stop as container_stop
from kernel.front.context import Call, Front
from kernel.front.requests import pod_config, user_namespaces
from kernel.host.aio import Deadline
from kernel.ids import SandboxId, new_id
from kernel.state import lifecycle

_LOG = logging.getLogger(__name__)


async def run_pod_sandbox(front: Front, request: cri.RunPodSandboxRequest, call: Call) -> cri.RunPodSandboxResponse:
    """RunPodSandbox. A repeat joins the attempt under way, or gets the sandbox that stands."""
    key = pod_config.sandbox_key(request.config)
    join = (*key[:3], str(key[3]))
    if not front.runs.running(join):
        existing = front.replica.sandbox_named(key)
        if existing is not None and existing.state is SandboxState.READY:
            return cri.RunPodSandboxResponse(pod_sandbox_id=existing.id)
        record = _new(front, request, existing.id if existing else SandboxId(new_id()))
        plan = pod_config.plan_pod(record.id, request.config, request.runtime_handler, front.config.runtime.handlers)
        front.runs.begin(join, run(front, record, plan, call.flow_deadline()), f"run {record.id[:13]}")
    return cri.RunPodSandboxResponse(pod_sandbox_id=await front.runs.wait(join))


async def stop_pod_sandbox(front: Front, request: cri.StopPodSandboxRequest, call: Call) -> cri.StopPodSandboxResponse:
    """StopPodSandbox. One that is gone is success."""
    with suppress(NotFound):
        sandbox = front.replica.sandbox(request.pod_sandbox_id)
        await flows.join(front, ("stop", sandbox.id), lambda: stop(front, sandbox.id, call.flow_deadline()))
    return cri.StopPodSandboxResponse()


async def remove_pod_sandbox(
    front: Front, request: cri.RemovePodSandboxRequest, call: Call
) -> cri.RemovePodSandboxResponse:
    """RemovePodSandbox. One that is gone is success."""
    with suppress(NotFound):
        sandbox = front.replica.sandbox(request.pod_sandbox_id)
        await flows.join(front, ("remove", sandbox.id), lambda: remove(front, sandbox.id, call.flow_deadline()))
    return cri.RemovePodSandboxResponse()


async def run(front: Front, record: Sandbox, plan: pod_config.PodPlan, deadline: Deadline) -> SandboxId:
    """Make a pod: for a new record, or again for one that a crash cut off. A failure leaves nothing."""
    async with front.locks.hold(record.id):
        await front.replica.commit(
            Commit(put_sandboxes=(record,), begin=(flows.intent(IntentKind.RUN_SANDBOX, record.id),)), deadline
        )
        try:
            made, attached = await _make(front, plan, deadline)
            ready = lifecycle.sandbox_made(record, ips=attached, network_up=plan.attach is not None, cgroup=made.cgroup)
            await front.replica.commit(Commit(put_sandboxes=(ready,), end=(record.id,)), deadline)
        except CrispError:
            await _undo(front, record)
            raise
    return record.id


async def stop(front: Front, sandbox: SandboxId, deadline: Deadline) -> None:
    """End a pod's containers and give its network back."""
    try:
        async with front.locks.hold(sandbox):
            await _stop(front, sandbox, deadline)
    except CrispError:
        flows.keep_trying(front, "stop", sandbox, lambda: _stop_again(front, sandbox))
        raise


async def remove(front: Front, sandbox: SandboxId, deadline: Deadline) -> None:
    """Take away a pod with all its containers."""
    try:
        async with front.locks.hold(sandbox):
            await _remove(front, sandbox, deadline)
    except CrispError:
        flows.keep_trying(front, "removal", sandbox, lambda: _remove_again(front, sandbox))
        raise


def _new(front: Front, request: cri.RunPodSandboxRequest, sandbox: SandboxId) -> Sandbox:
    """The record of a pod to make; one that was cut off is made again under its id."""
    name, namespace, uid, attempt = pod_config.sandbox_key(request.config)
    host_network = request.config.linux.security_context.namespace_options.network == cri.NODE
    return Sandbox(
        id=sandbox,
        name=name,
        namespace=namespace,
        uid=uid,
        attempt=attempt,
        state=SandboxState.CREATING,
        created_at=time.time_ns(),
        handler=request.runtime_handler,
        config=request.config.SerializeToString(),
        labels=dict(request.config.labels),
        host_network=host_network,
        network_up=not host_network,
        boot_id=front.boot_id,
    )


async def _make(front: Front, plan: pod_config.PodPlan, deadline: Deadline) -> tuple[runtime.PodMade, tuple[str, ...]]:
    made: list[runtime.PodMade] = []
    ips: list[str] = []

    async def make_pod() -> None:
        made.append(await front.runtime.call(runtime.MAKE_POD, plan.pod, deadline=deadline))

    async def attach() -> None:
        if plan.attach is not None:
            ips.extend((await front.network.call(network.ATTACH, plan.attach, deadline=deadline)).ips)

    if plan.pod.user_namespace is None:
        await flows.all_of(attach(), make_pod())
    else:  # its network namespace is made with it, and belongs to it
        user_namespaces.check_handler(plan.pod, await front.platform(deadline), front.config.runtime.default_handler)
        await make_pod()
        await attach()
    return made[0], tuple(ips)


async def _undo(front: Front, record: Sandbox) -> None:
    """Take away what a failed run may have left; what cannot be is listed, NOT_READY, and tried again."""
    deadline = Deadline.after(flows.UNDO_SECONDS)
    try:
        await release(front, record.id, deadline, network_up=record.network_up)
        await front.replica.commit(Commit(delete_sandboxes=(record.id,), end=(record.id,)), deadline)
    except CrispError as error:
        _LOG.warning("pod sandbox %s failed and cannot be taken away yet: %s", record.id[:13], error)
        front.replica.doomed.add(record.id)
        flows.keep_trying(front, "removal", record.id, lambda: _remove_again(front, record.id))


async def _stop_again(front: Front, sandbox: SandboxId) -> None:
    deadline = Deadline.after(flows.UNDO_SECONDS)
    await flows.join(front, ("stop", sandbox), lambda: stop(front, sandbox, deadline))


async def _remove_again(front: Front, sandbox: SandboxId) -> None:
    deadline = Deadline.after(flows.UNDO_SECONDS)
    await flows.join(front, ("remove", sandbox), lambda: remove(front, sandbox, deadline))


async def _stop(front: Front, sandbox: SandboxId, deadline: Deadline) -> None:
    record = front.replica.sandboxes.get(sandbox)
    if record is None or _stopped(front, record):
        return
    await _close(front, sandbox, IntentKind.STOP_SANDBOX, deadline)
    await _creations_end(front, sandbox, deadline)
    live = [one.id for one in front.replica.containers_of(sandbox) if one.state.may_have_process]
    await flows.all_of(*(container_stop.kill(front, container, deadline) for container in live))
    await flows.all_of(_stop_pod(front, sandbox, deadline), _detach(front, sandbox, deadline, record.network_up))

    def stopped() -> Commit:
        intent = front.replica.intents.get(sandbox)
        ended = (sandbox,) if intent is not None and intent.kind is IntentKind.STOP_SANDBOX else ()
        down = lifecycle.sandbox_stopped(front.replica.sandboxes[sandbox], network_up=False)
        return Commit(put_sandboxes=(down,), end=ended)

    await front.replica.change(sandbox, stopped, deadline)


def _stopped(front: Front, record: Sandbox) -> bool:
    live = any(one.state.may_have_process for one in front.replica.containers_of(record.id))
    idle = record.id not in front.replica.intents and not front.creating.get(record.id)
    return record.state is SandboxState.NOT_READY and not record.network_up and idle and not live


async def _remove(front: Front, sandbox: SandboxId, deadline: Deadline) -> None:
    record = front.replica.sandboxes.get(sandbox)
    if record is None:
        return
    await _close(front, sandbox, IntentKind.REMOVE_SANDBOX, deadline)
    await _creations_end(front, sandbox, deadline)
    async with AsyncExitStack() as held:
        members = [one.id for one in front.replica.containers_of(sandbox)]
        for container in members:
            await held.enter_async_context(front.locks.hold(container))
        await flows.all_of(*(container_remove.release(front, container, deadline) for container in members))
        await release(front, record.id, deadline, network_up=record.network_up)
        await front.replica.commit(
            Commit(delete_containers=tuple(members), delete_sandboxes=(sandbox,), end=(sandbox, *members)), deadline
        )


async def _close(front: Front, sandbox: SandboxId, kind: IntentKind, deadline: Deadline) -> None:
    """From here on nothing is created in the pod. A removal that was begun is not taken back by a stop."""

    def closed() -> Commit:
        record, intent = front.replica.sandboxes[sandbox], front.replica.intents.get(sandbox)
        removing = intent is not None and intent.kind is IntentKind.REMOVE_SANDBOX
        return Commit(
            put_sandboxes=(lifecycle.sandbox_stopped(record),),
            begin=() if removing else (flows.intent(kind, sandbox),),
        )

    await front.replica.change(sandbox, closed, deadline)


async def _creations_end(front: Front, sandbox: SandboxId, deadline: Deadline) -> None:
    """Wait for CreateContainer flows of the pod; how they end is their callers' affair."""
    for task in list(front.creating.get(sandbox, ())):
        async with deadline.limit(f"a container is still being created in pod sandbox {sandbox}"):
            await flows.ended(task)


async def release(front: Front, sandbox: SandboxId, deadline: Deadline, *, network_up: bool) -> None:
    """Take away what a pod holds on the host."""
    await _stop_pod(front, sandbox, deadline)
    gone = front.runtime.call(runtime.REMOVE_POD, runtime.SandboxRequest(sandbox=sandbox), deadline=deadline)
    await flows.all_of(_detach(front, sandbox, deadline, network_up), gone)


async def _stop_pod(front: Front, sandbox: SandboxId, deadline: Deadline) -> None:
    with suppress(NotFound):  # it was never made, or is gone
        await front.runtime.call(runtime.STOP_POD, runtime.SandboxRequest(sandbox=sandbox), deadline=deadline)


async def _detach(front: Front, sandbox: SandboxId, deadline: Deadline, network_up: bool) -> None:
    if network_up:
        await front.network.call(network.DETACH, network.SandboxRequest(sandbox=sandbox), deadline=deadline)
