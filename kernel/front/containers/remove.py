"""RemoveContainer: intent → runtime.remove → storage.unmount → gone."""

from __future__ import annotations

from kernel.contracts import runtime, storage
from kernel.contracts.records import IntentKind
from kernel.contracts.supervisor import Commit
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import CrispError, NotFound
from kernel.front import flows
from kernel.front.context import Call, Front
from kernel.host.aio import Deadline
from kernel.ids import ContainerId


async def remove_container(
    front: Front, request: cri.RemoveContainerRequest, call: Call
) -> cri.RemoveContainerResponse:
    """Serve RemoveContainer. One that runs is killed; one that is gone is success."""
    try:
        container_id = front.replica.container(request.container_id).id
    except NotFound:
        return cri.RemoveContainerResponse()
    deadline = call.flow_deadline()
    await flows.join(front, ("remove", container_id), lambda: remove(front, container_id, deadline))
    return cri.RemoveContainerResponse()


async def remove(front: Front, container_id: ContainerId, deadline: Deadline) -> None:
    """Remove a container; a removal that fails is tried again in the background."""
    try:
        async with front.locks.hold(container_id):
            if container_id not in front.replica.containers:
                return
            intent = flows.intent(IntentKind.REMOVE_CONTAINER, container_id)
            await front.replica.commit(Commit(begin=(intent,)), deadline)
            await release(front, container_id, deadline)
            await front.replica.commit(Commit(delete_containers=(container_id,), end=(container_id,)), deadline)
    except CrispError:
        flows.keep_trying(front, "removal", container_id, lambda: remove_again(front, container_id))
        raise


async def remove_again(front: Front, container_id: ContainerId) -> None:
    """Remove a container in the background."""
    deadline = Deadline.after(flows.UNDO_SECONDS)
    await flows.join(front, ("remove", container_id), lambda: remove(front, container_id, deadline))


async def release(front: Front, container_id: ContainerId, deadline: Deadline) -> None:
    """Remove what a container holds on the host: process and bundle first, then its root file system."""
    await front.runtime.call(runtime.REMOVE, runtime.ContainerRequest(container_id=container_id), deadline=deadline)
    await front.storage.call(storage.UNMOUNT, storage.ContainerRequest(container_id=container_id), deadline=deadline)
