"""ExecSync: the runtime runs a command in a container and returns its output and exit code."""

from __future__ import annotations

from kernel.contracts import runtime
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.context import Call, Front
from kernel.front.requests import fields, states

_LONGEST_TIMEOUT = 10 * 365 * 86400
"""Ten years in seconds: a longer timeout would overflow timers."""


async def exec_sync(front: Front, request: cri.ExecSyncRequest, call: Call) -> cri.ExecSyncResponse:
    """Serve ExecSync. It is not joined and not repeated: the command may have run."""
    if not request.cmd or not request.cmd[0]:
        fields.refuse("cmd", "is empty")
    command = fields.arguments("cmd", request.cmd)
    timeout = min(fields.integer("timeout", request.timeout, 0, (1 << 63) - 1), _LONGEST_TIMEOUT)
    record = states.running(front.replica.container(request.container_id))
    execution = runtime.ExecRequest(container_id=record.id, cmd=command, timeout=timeout)
    done = await front.runtime.call(runtime.EXEC, execution, deadline=call.deadline)
    return cri.ExecSyncResponse(stdout=done.stdout, stderr=done.stderr, exit_code=done.exit_code)
