"""ExecSync; and Exec, Attach and PortForward, which hand out URLs of the stream process.

url      expect at the stream process → its address and the session's token
opened   the client has come: the runtime opens what was asked for and hands it to the stream process
dial     a connection of a port-forward: the network worker dials it and hands it over
ended    the client has gone, or the command has: the runtime ends what is left

From `opened` and `dial` on nothing passes through the front. One that starts anew hears from the stream process who
waits; only an exec is not begun by a front that it was not asked of, which cannot know whether it was.
"""

from __future__ import annotations

import logging
import time

from kernel.contracts import network, runtime, stream
from kernel.contracts.contract import Message, Nothing
from kernel.contracts.records import SandboxState
from kernel.contracts.stream import Dial, Ended, ExpectRequest, Kind, Opened, RefuseRequest, Waiting
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import CrispError, FailedPrecondition
from kernel.front import watches
from kernel.front.context import Call, Front
from kernel.front.memory.pending_sessions import LIFE_NS, Pending
from kernel.front.requests import fields
from kernel.front.requests.states import running
from kernel.host.aio import Deadline
from kernel.ids import SessionId, new_session

_LOG = logging.getLogger(__name__)
_LONGEST_TIMEOUT = 10 * 365 * 86400
_OPEN_SECONDS = 60.0
_DIAL_SECONDS = 30.0
_TELL_SECONDS = 10.0
_HIGHEST_PORT = 65535


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


async def exec_stream(front: Front, request: cri.ExecRequest, call: Call) -> cri.ExecResponse:
    """Exec: where to bring the command's input and get its output."""
    if not request.cmd or not request.cmd[0]:
        fields.refuse("cmd", "is empty")
    command = fields.arguments("cmd", request.cmd)
    record = running(front.replica.container(request.container_id))
    expected = _expected(Kind.EXEC, record.id, request)
    return cri.ExecResponse(url=await _url(front, Pending(expected, command), call.deadline))


async def attach(front: Front, request: cri.AttachRequest, call: Call) -> cri.AttachResponse:
    """Attach: where to bring a container's input and get its output."""
    record = running(front.replica.container(request.container_id))
    expected = _expected(Kind.ATTACH, record.id, request)
    return cri.AttachResponse(url=await _url(front, Pending(expected), call.deadline))


async def port_forward(front: Front, request: cri.PortForwardRequest, call: Call) -> cri.PortForwardResponse:
    """PortForward: where to bring connections to a pod's ports."""
    ports = tuple(fields.integer(f"port[{number}]", one, 1, _HIGHEST_PORT) for number, one in enumerate(request.port))
    record = front.replica.sandbox(request.pod_sandbox_id)
    if record.state is not SandboxState.READY:
        raise FailedPrecondition(f"pod sandbox {record.id} is {record.state.value}, not ready")
    expected = ExpectRequest(
        session=new_session(), kind=Kind.PORT_FORWARD, target=record.id, ports=ports, expires_ns=_expiry()
    )
    return cri.PortForwardResponse(url=await _url(front, Pending(expected), call.deadline))


def begin(front: Front) -> None:
    """Start to hear of clients."""
    watches.keep(front, watch_stream)


async def watch_stream(front: Front) -> None:
    """Clients that come and go, and connections that they want."""

    async def heard(event: Message) -> None:
        match event:
            case Waiting(opened=opened, dials=dials):
                # The process has started anew, or this one has: clients to come must be known to it.
                for pending in front.sessions.all(_now()):
                    front.tasks.start(_expect_again(front, pending), "expect again")
                for each in (*opened, *dials):
                    await heard(each)
            case Opened(session=session):
                front.tasks.start(_open(front, event), f"open session {session[:4]}")
            case Dial(session=session, connection=connection):
                front.tasks.start(_dial(front, event), f"dial for session {session[:4]}, {connection}")
            case Ended(session=session, kind=Kind.EXEC):
                front.tasks.start(_close(front, session), f"close session {session[:4]}")
            case _:
                pass

    await watches.follow("stream", lambda: front.stream.watch(stream.WATCH, Nothing()), heard)


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
        expires_ns=_expiry(),
    )


async def _url(front: Front, pending: Pending, deadline: Deadline) -> str:
    expected = pending.expected
    front.sessions.add(pending, _now())
    try:
        place = await front.stream.call(stream.EXPECT, expected, deadline=deadline)
    except BaseException:
        front.sessions.take(expected.session)
        raise
    return f"{place.base_url}/{expected.kind.value}/{expected.session}"


async def _expect_again(front: Front, pending: Pending) -> None:
    try:
        await front.stream.call(stream.EXPECT, pending.expected, deadline=Deadline.after(_TELL_SECONDS))
    except CrispError as error:
        _LOG.warning("a session of %s may be lost: %s", pending.expected.target[:13], error)


async def _open(front: Front, event: Opened) -> None:
    pending = front.sessions.take(event.session)
    try:
        record = running(front.replica.container(event.target))
        if event.kind is Kind.ATTACH:
            await front.runtime.call(
                runtime.OPEN_ATTACH,
                runtime.OpenAttachRequest(session=event.session, container=record.id),
                deadline=Deadline.after(_OPEN_SECONDS),
            )
        elif pending is None or pending.expected.target != event.target:
            raise FailedPrecondition("crisp was restarted after this was asked for", hint="ask again")
        else:
            expected = pending.expected
            await front.runtime.call(
                runtime.OPEN_EXEC,
                runtime.OpenExecRequest(
                    session=event.session,
                    container=record.id,
                    cmd=pending.command,
                    tty=expected.tty,
                    stdin=expected.stdin,
                    stdout=expected.stdout,
                    stderr=expected.stderr,
                    width=event.width,
                    height=event.height,
                ),
                deadline=Deadline.after(_OPEN_SECONDS),
            )
    except CrispError as error:
        _LOG.info("%s of container %s failed: %s", event.kind.value, event.target[:13], error)
        await _refuse(front, event.session, 0, error)


async def _dial(front: Front, event: Dial) -> None:
    front.sessions.take(event.session)
    try:
        record = front.replica.sandbox(event.target)
        if record.state is not SandboxState.READY:
            raise FailedPrecondition(f"pod sandbox {record.id} is {record.state.value}, not ready")
        await front.network.call(
            network.DIAL,
            network.DialRequest(
                session=event.session,
                connection=event.connection,
                sandbox=record.id,
                port=event.port,
                host_network=record.host_network,
            ),
            deadline=Deadline.after(_DIAL_SECONDS),
        )
    except CrispError as error:
        _LOG.info("port %d of pod %s: %s", event.port, event.target[:13], error)
        await _refuse(front, event.session, event.connection, error)


async def _refuse(front: Front, session: SessionId, connection: int, why: CrispError) -> None:
    request = RefuseRequest(session=session, connection=connection, message=str(why))
    try:
        await front.stream.call(stream.REFUSE, request, deadline=Deadline.after(_TELL_SECONDS))
    except CrispError as error:
        _LOG.warning("a client was not told that its session failed: %s", error)


async def _close(front: Front, session: SessionId) -> None:
    request = runtime.SessionRequest(session=session)
    try:
        await front.runtime.call(runtime.CLOSE_SESSION, request, deadline=Deadline.after(_OPEN_SECONDS))
    except CrispError as error:
        _LOG.warning("what a session has left may run on: %s", error)


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _expiry() -> int:
    return _now() + LIFE_NS
