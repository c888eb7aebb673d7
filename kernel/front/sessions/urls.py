"""Exec, Attach and PortForward: each returns a URL of the stream process, to which the client then connects.

    stream.expect → the process's address and the session's token

What the session is to do stays in the front (`kernel.front.memory.pending_sessions`); `kernel.front.sessions.clients`
does it once the client has come.
"""

from __future__ import annotations

import time

from kernel.contracts import stream
from kernel.contracts.stream import ExpectRequest, Kind
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.context import Call, Front
from kernel.front.memory.pending_sessions import LIFE_NS, Pending
from kernel.front.requests import fields, states
from kernel.host.aio import Deadline
from kernel.ids import new_session

_HIGHEST_PORT = 65535


async def exec_stream(front: Front, request: cri.ExecRequest, call: Call) -> cri.ExecResponse:
    """Serve Exec: return the URL for the command's input and output."""
    if not request.cmd or not request.cmd[0]:
        fields.refuse("cmd", "is empty")
    command = fields.arguments("cmd", request.cmd)
    record = states.running(front.replica.container(request.container_id))
    expected = _expected(Kind.EXEC, record.id, request)
    return cri.ExecResponse(url=await _url(front, Pending(expected, command), call.deadline))


async def attach(front: Front, request: cri.AttachRequest, call: Call) -> cri.AttachResponse:
    """Serve Attach: return the URL for the container's input and output."""
    record = states.running(front.replica.container(request.container_id))
    expected = _expected(Kind.ATTACH, record.id, request)
    return cri.AttachResponse(url=await _url(front, Pending(expected), call.deadline))


async def port_forward(front: Front, request: cri.PortForwardRequest, call: Call) -> cri.PortForwardResponse:
    """Serve PortForward: return the URL for connections to the pod's ports."""
    ports = tuple(fields.integer(f"port[{number}]", one, 1, _HIGHEST_PORT) for number, one in enumerate(request.port))
    record = states.ready(front.replica.sandbox(request.pod_sandbox_id))
    expected = ExpectRequest(
        session=new_session(), kind=Kind.PORT_FORWARD, target=record.id, ports=ports, expires_ns=now() + LIFE_NS
    )
    return cri.PortForwardResponse(url=await _url(front, Pending(expected), call.deadline))


def now() -> int:
    """Return the time by the clock of sessions: CLOCK_BOOTTIME in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _expected(kind: Kind, target: str, request: cri.ExecRequest | cri.AttachRequest) -> ExpectRequest:
    if request.tty and request.stderr:
        fields.refuse("stderr", "a terminal has no standard error of its own")
    if not (request.stdin or request.stdout or request.stderr):
        fields.refuse("stdin, stdout, stderr", "one of them must be asked for")
    return ExpectRequest(
        session=new_session(),
        kind=kind,
        target=target,
        tty=request.tty,
        stdin=request.stdin,
        stdout=request.stdout,
        stderr=request.stderr,
        expires_ns=now() + LIFE_NS,
    )


async def _url(front: Front, pending: Pending, deadline: Deadline) -> str:
    expected = pending.expected
    front.sessions.add(pending, now())
    try:
        place = await front.stream.call(stream.EXPECT, expected, deadline=deadline)
    except BaseException:
        front.sessions.take(expected.session)
        raise
    return f"{place.base_url}/{expected.kind.value}/{expected.session}"
