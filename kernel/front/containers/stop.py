"""StopContainer: runtime.stop → EXITED, once the runtime's watch reports the exit."""

from __future__ import annotations

from kernel.contracts import runtime
from kernel.contracts.records import ContainerState
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import DeadlineExceeded, NotFound
from kernel.front import facts, flows
from kernel.front.context import Call, Front
from kernel.front.requests import fields
from kernel.host.aio import Deadline
from kernel.ids import ContainerId

_SETTLE_SECONDS = 5.0
"""Seconds that an exit which the runtime has confirmed may take to reach the record by the watch."""
_LONGEST_GRACE = 10 * 365 * 86400
"""Ten years in seconds: a longer grace period would overflow timers."""


async def stop_container(front: Front, request: cri.StopContainerRequest, call: Call) -> cri.StopContainerResponse:
    """Serve StopContainer. One that has ended or is gone is success; a shorter timeout shortens a stop under way."""
    grace = fields.integer("timeout", request.timeout, 0, (1 << 63) - 1)
    try:
        record = front.replica.container(request.container_id)
    except NotFound:
        return cri.StopContainerResponse()
    if record.state is not ContainerState.EXITED:
        grace = min(grace, _LONGEST_GRACE)
        deadline = call.flow_deadline(grace + flows.UNDO_SECONDS)
        await flows.join(front, ("stop", record.id, str(grace)), lambda: _stop(front, record.id, grace, deadline))
    return cri.StopContainerResponse()


async def kill(front: Front, container_id: ContainerId, deadline: Deadline) -> None:
    """End a container at once, as the end of its pod does."""
    await _stop(front, container_id, 0, deadline)


async def _stop(front: Front, container_id: ContainerId, grace: int, deadline: Deadline) -> None:
    until = Deadline.after(grace)
    while True:
        left = max(int(until.remaining() + 0.999), 0)
        request = runtime.StopRequest(container_id=container_id, timeout=left)
        try:
            await front.runtime.call(runtime.STOP, request, deadline=deadline)
            break
        except NotFound:
            break  # the runtime has nothing of it left
        except DeadlineExceeded:
            if deadline.remaining() <= 0 or left == 0:
                raise  # otherwise the method's own deadline was shorter than the grace period
    record = front.replica.containers.get(container_id)
    if record is not None and record.state is ContainerState.UNKNOWN:  # the runtime sees no exit of what it cannot read
        await facts.refresh(front, Deadline.after(_SETTLE_SECONDS))
    try:
        settled = deadline.earlier(_SETTLE_SECONDS)
        await front.replica.wait_container(container_id, lambda record: record.state is ContainerState.EXITED, settled)
    except DeadlineExceeded:
        await facts.refresh(front, Deadline.after(_SETTLE_SECONDS))
