"""RemovePodSandbox: the pod goes with all its containers.

intent, NOT_READY → containers removed → runtime.stop_pod → network.detach beside runtime.remove_pod → gone
"""

from __future__ import annotations

from contextlib import AsyncExitStack

from kernel.contracts import runtime
from kernel.contracts.records import IntentKind
from kernel.contracts.supervisor import Commit
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import CrispError, NotFound
from kernel.front import flows
from kernel.front.containers import remove as container_remove
from kernel.front.context import Call, Front
from kernel.front.pods import stop
from kernel.host.aio import Deadline
from kernel.ids import SandboxId


async def remove_pod_sandbox(
    front: Front, request: cri.RemovePodSandboxRequest, call: Call
) -> cri.RemovePodSandboxResponse:
    """Serve RemovePodSandbox. A pod that does not exist is success."""
    try:
        sandbox_id = front.replica.sandbox(request.pod_sandbox_id).id
    except NotFound:
        return cri.RemovePodSandboxResponse()
    deadline = call.flow_deadline()
    await flows.join(front, ("remove", sandbox_id), lambda: remove(front, sandbox_id, deadline))
    return cri.RemovePodSandboxResponse()


async def remove(front: Front, sandbox_id: SandboxId, deadline: Deadline) -> None:
    """Remove a pod with all its containers; a removal that fails is tried again in the background."""
    try:
        async with front.locks.hold(sandbox_id):
            await _remove(front, sandbox_id, deadline)
    except CrispError:
        flows.keep_trying(front, "removal", sandbox_id, lambda: remove_again(front, sandbox_id))
        raise


async def remove_again(front: Front, sandbox_id: SandboxId) -> None:
    """Remove a pod in the background."""
    deadline = Deadline.after(flows.UNDO_SECONDS)
    await flows.join(front, ("remove", sandbox_id), lambda: remove(front, sandbox_id, deadline))


async def release(front: Front, sandbox_id: SandboxId, deadline: Deadline, *, network_up: bool) -> None:
    """Remove what a pod holds on the host."""
    await stop.stop_processes(front, sandbox_id, deadline)
    request = runtime.SandboxRequest(sandbox_id=sandbox_id)
    await flows.all_of(
        stop.detach(front, sandbox_id, deadline, network_up=network_up),
        front.runtime.call(runtime.REMOVE_POD, request, deadline=deadline),
    )


async def _remove(front: Front, sandbox_id: SandboxId, deadline: Deadline) -> None:
    record = front.replica.sandboxes.get(sandbox_id)
    if record is None:
        return
    await stop.close(front, sandbox_id, IntentKind.REMOVE_SANDBOX, deadline)
    async with AsyncExitStack() as held:
        members = [one.id for one in front.replica.containers_of(sandbox_id)]
        for container_id in members:
            await held.enter_async_context(front.locks.hold(container_id))
        await flows.all_of(*(container_remove.release(front, container_id, deadline) for container_id in members))
        await release(front, sandbox_id, deadline, network_up=record.network_up)
        await front.replica.commit(
            Commit(delete_containers=tuple(members), delete_sandboxes=(sandbox_id,), end=(sandbox_id, *members)),
            deadline,
        )
