"""ReopenContainerLog: conmon makes the log file again at its path, after the kubelet has renamed it."""

from __future__ import annotations

from kernel.contracts import runtime
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.context import Call, Front
from kernel.front.requests import states


async def reopen_container_log(
    front: Front, request: cri.ReopenContainerLogRequest, call: Call
) -> cri.ReopenContainerLogResponse:
    """Serve ReopenContainerLog; the container must run."""
    record = states.running(front.replica.container(request.container_id))
    await front.runtime.call(
        runtime.REOPEN_LOG, runtime.ContainerRequest(container_id=record.id), deadline=call.deadline
    )
    return cri.ReopenContainerLogResponse()
