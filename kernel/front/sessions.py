"""ExecSync. Exec, Attach and PortForward will hand out URLs of the stream server."""

from __future__ import annotations

from kernel.contracts import runtime
from kernel.front import fields
from kernel.front.containers import running
from kernel.front.context import Call, Front
from kernel.front.generated import cri_pb2 as cri

_LONGEST_TIMEOUT = 10 * 365 * 86400


async def exec_sync(front: Front, request: cri.ExecSyncRequest, call: Call) -> cri.ExecSyncResponse:
    """ExecSync. Not joined and not repeated: the command may have run."""
    if not request.cmd or not request.cmd[0]:
        fields.refuse("cmd", "is empty")
    command = fields.arguments("cmd", request.cmd)
    timeout = min(fields.integer("timeout", request.timeout, 0, (1 << 63) - 1), _LONGEST_TIMEOUT)
    record = running(front.replica.container(request.container_id))
    done = await front.runtime.call(
        runtime.EXEC,
        runtime.ExecRequest(container=record.id, cmd=command, timeout=timeout),
        deadline=call.deadline,
    )
    return cri.ExecSyncResponse(stdout=done.stdout, stderr=done.stderr, exit_code=done.exit_code)
