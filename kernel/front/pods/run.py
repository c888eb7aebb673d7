"""RunPodSandbox: network and namespaces are made side by side, then the pod is READY.

intent → network.attach beside runtime.make_pod (after it with a user namespace) → READY
"""

from __future__ import annotations

import logging
import time
from collections.abc import Coroutine

from kernel.contracts import network, runtime
from kernel.contracts.records import IntentKind, Sandbox, SandboxState
from kernel.contracts.supervisor import Commit
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import CrispError
from kernel.front import flows
from kernel.front.context import Call, Front
from kernel.front.pods import remove
from kernel.front.requests import keys, pod_config, user_namespaces
from kernel.front.responses import views
from kernel.host.aio import Deadline
from kernel.ids import SandboxId, new_id, short
from kernel.state import lifecycle

_LOG = logging.getLogger(__name__)


async def run_pod_sandbox(front: Front, request: cri.RunPodSandboxRequest, call: Call) -> cri.RunPodSandboxResponse:
    """Serve RunPodSandbox. A repeat joins the attempt under way, or gets the sandbox that is ready."""
    key = pod_config.sandbox_key(request.config)
    existing = front.replica.sandbox_named(key)
    if existing is not None and existing.state is SandboxState.READY:
        return cri.RunPodSandboxResponse(pod_sandbox_id=existing.id)
    sandbox_id = existing.id if existing else SandboxId(new_id())

    def attempt() -> Coroutine[object, object, SandboxId]:
        handler, handlers = request.runtime_handler, front.config.runtime.handlers
        plan = pod_config.plan_pod(sandbox_id, request.config, handler, handlers)
        return _run(front, _new(front, request, sandbox_id), plan, call.flow_deadline())

    return cri.RunPodSandboxResponse(pod_sandbox_id=await front.runs.join(key, attempt, f"run {short(sandbox_id)}"))


async def run_again(front: Front, record: Sandbox, deadline: Deadline) -> None:
    """Go on with a run that a crash cut off, or join the repeat of the kubelet's that has begun meanwhile."""

    def attempt() -> Coroutine[object, object, SandboxId]:
        config = views.pod_config(record)
        plan = pod_config.plan_pod(record.id, config, record.handler, front.config.runtime.handlers)
        return _run(front, record, plan, deadline)

    await front.runs.join(keys.of_sandbox(record), attempt, f"run {short(record.id)}")


async def _run(front: Front, record: Sandbox, plan: pod_config.PodPlan, deadline: Deadline) -> SandboxId:
    """Make a pod: for a new record, or again for one that a crash cut off. A failure leaves nothing."""
    async with front.locks.hold(record.id):
        intent = flows.intent(IntentKind.RUN_SANDBOX, record.id)
        await front.replica.commit(Commit(put_sandboxes=(record,), begin=(intent,)), deadline)
        try:
            made, ips = await _make(front, plan, deadline)
            ready = lifecycle.sandbox_made(record, ips=ips, network_up=plan.attach is not None, cgroup=made.cgroup)
            await front.replica.commit(Commit(put_sandboxes=(ready,), end=(record.id,)), deadline)
        except CrispError:
            await _undo(front, record)
            raise
    return record.id


def _new(front: Front, request: cri.RunPodSandboxRequest, sandbox_id: SandboxId) -> Sandbox:
    """Return the record of a pod to make; one that was cut off is made again under its id."""
    name, namespace, uid, attempt = pod_config.sandbox_key(request.config)
    host_network = request.config.linux.security_context.namespace_options.network == cri.NODE
    return Sandbox(
        id=sandbox_id,
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
    """Make the pod and its network; return what was made and the pod's addresses."""
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
    """Remove what a failed run may have left.

    If that fails too, the pod is listed as NOT_READY and its removal is tried again in the background.
    """
    deadline = Deadline.after(flows.UNDO_SECONDS)
    try:
        await remove.release(front, record.id, deadline, network_up=record.network_up)
        await front.replica.commit(Commit(delete_sandboxes=(record.id,), end=(record.id,)), deadline)
    except CrispError as error:
        _LOG.warning("pod %s: it could not be made, and cannot be removed yet: %s", short(record.id), error)
        front.replica.doomed.add(record.id)
        flows.keep_trying(front, "removal", record.id, lambda: remove.remove_again(front, record.id))
