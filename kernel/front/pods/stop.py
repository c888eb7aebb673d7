"""StopPodSandbox: the containers are killed, then the pod is stopped and gives its network back.

    intent, NOT_READY → containers killed → runtime.stop_pod beside network.detach → network down

From the first commit on nothing more is created in the pod; creations under way are waited for.
"""

from __future__ import annotations

from contextlib import suppress

from kernel.contracts import network, runtime
from kernel.contracts.records import IntentKind, Sandbox, SandboxState
from kernel.contracts.supervisor import Commit
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import CrispError, NotFound
from kernel.front import flows
from kernel.front.containers import stop as container_stop
from kernel.front.context import Call, Front
from kernel.host.aio import Deadline
from kernel.ids import SandboxId
from kernel.state import lifecycle


async def stop_pod_sandbox(front: Front, request: cri.StopPodSandboxRequest, call: Call) -> cri.StopPodSandboxResponse:
    """Serve StopPodSandbox. A pod that does not exist is success."""
    try:
        sandbox_id = front.replica.sandbox(request.pod_sandbox_id).id
    except NotFound:
        return cri.StopPodSandboxResponse()
    deadline = call.flow_deadline()
    await flows.join(front, ("stop", sandbox_id), lambda: stop(front, sandbox_id, deadline))
    return cri.StopPodSandboxResponse()


async def stop(front: Front, sandbox_id: SandboxId, deadline: Deadline) -> None:
    """End a pod's containers and give its network back; a stop that fails is tried again in the background."""
    try:
        async with front.locks.hold(sandbox_id):
            await _stop(front, sandbox_id, deadline)
    except CrispError:
        flows.keep_trying(front, "stop", sandbox_id, lambda: _stop_again(front, sandbox_id))
        raise


async def close(front: Front, sandbox_id: SandboxId, kind: IntentKind, deadline: Deadline) -> None:
    """Record that nothing more is created in the pod, and wait for the creations under way.

    The pod is NOT_READY and has an intent of `kind` from here on; a stop does not replace the intent of a removal.
    """

    def closed() -> Commit:
        record, intent = front.replica.sandboxes[sandbox_id], front.replica.intents.get(sandbox_id)
        removing = intent is not None and intent.kind is IntentKind.REMOVE_SANDBOX
        return Commit(
            put_sandboxes=(lifecycle.sandbox_stopped(record),),
            begin=() if removing else (flows.intent(kind, sandbox_id),),
        )

    await front.replica.change(sandbox_id, closed, deadline)
    for task in list(front.creating.get(sandbox_id, ())):
        async with deadline.limit(f"a container is still being created in pod sandbox {sandbox_id}"):
            await flows.ended(task)


async def stop_processes(front: Front, sandbox_id: SandboxId, deadline: Deadline) -> None:
    """Have the runtime end all of the pod's processes. One that was never made, or is gone, is success."""
    with suppress(NotFound):
        await front.runtime.call(runtime.STOP_POD, runtime.SandboxRequest(sandbox_id=sandbox_id), deadline=deadline)


async def detach(front: Front, sandbox_id: SandboxId, deadline: Deadline, *, network_up: bool) -> None:
    """Give the pod's network back, if it may have one."""
    if network_up:
        await front.network.call(network.DETACH, network.SandboxRequest(sandbox_id=sandbox_id), deadline=deadline)


async def _stop_again(front: Front, sandbox_id: SandboxId) -> None:
    deadline = Deadline.after(flows.UNDO_SECONDS)
    await flows.join(front, ("stop", sandbox_id), lambda: stop(front, sandbox_id, deadline))


async def _stop(front: Front, sandbox_id: SandboxId, deadline: Deadline) -> None:
    record = front.replica.sandboxes.get(sandbox_id)
    if record is None or _stopped(front, record):
        return
    await close(front, sandbox_id, IntentKind.STOP_SANDBOX, deadline)
    live = [one.id for one in front.replica.containers_of(sandbox_id) if one.state.may_have_process]
    await flows.all_of(*(container_stop.kill(front, container_id, deadline) for container_id in live))
    await flows.all_of(
        stop_processes(front, sandbox_id, deadline),
        detach(front, sandbox_id, deadline, network_up=record.network_up),
    )

    def stopped() -> Commit:
        intent = front.replica.intents.get(sandbox_id)
        ended = (sandbox_id,) if intent is not None and intent.kind is IntentKind.STOP_SANDBOX else ()
        down = lifecycle.sandbox_stopped(front.replica.sandboxes[sandbox_id], network_up=False)
        return Commit(put_sandboxes=(down,), end=ended)

    await front.replica.change(sandbox_id, stopped, deadline)


def _stopped(front: Front, record: Sandbox) -> bool:
    live = any(one.state.may_have_process for one in front.replica.containers_of(record.id))
    idle = record.id not in front.replica.intents and not front.creating.get(record.id)
    return record.state is SandboxState.NOT_READY and not record.network_up and idle and not live
