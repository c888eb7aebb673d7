"""StartContainer: runtime.start → RUNNING."""

from __future__ import annotations

from msgspec.structs import replace

from kernel.contracts import runtime
from kernel.contracts.records import ContainerState
from kernel.contracts.supervisor import Commit
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import FailedPrecondition, NotFound
from kernel.front import flows
from kernel.front.context import Call, Front
from kernel.host.aio import Deadline
from kernel.ids import ContainerId
from kernel.state import lifecycle

_START_SECONDS = 60.0


async def start_container(front: Front, request: cri.StartContainerRequest, call: Call) -> cri.StartContainerResponse:
    """Serve StartContainer. A repeat joins the start under way; a container that runs already is refused."""
    record = front.replica.container(request.container_id)
    deadline = call.flow_deadline(_START_SECONDS)
    await flows.join(front, ("start", record.id), lambda: _start(front, record.id, deadline))
    return cri.StartContainerResponse()


async def _start(front: Front, container_id: ContainerId, deadline: Deadline) -> None:
    async with front.locks.hold(container_id):
        record = front.replica.containers.get(container_id)
        if record is None:
            raise NotFound(f"container {container_id} does not exist")
        if record.state is not ContainerState.CREATED:
            raise FailedPrecondition(
                f"container {container_id} is {record.state.value}; only a created one can be started"
            )
        request = runtime.ContainerRequest(container_id=container_id)
        started = await front.runtime.call(runtime.START, request, deadline=deadline)
        await front.replica.change(container_id, lambda: _started(front, container_id, started), deadline)


def _started(front: Front, container_id: ContainerId, started: runtime.Started) -> Commit | None:
    record = front.replica.containers.get(container_id)
    if record is None:
        return None
    if record.state is ContainerState.EXITED:  # the watch reported its end before the reply to its start came
        return Commit(put_containers=(replace(record, started_at=record.started_at or started.started_at),))
    return Commit(put_containers=(lifecycle.container_started(record, started_at=started.started_at, pid=started.pid),))
