"""Serves the reports of the stream process about the clients of sessions: they connect, need connections, and go.

    opened   the client has come: the runtime opens the session's descriptors and hands them to the stream process
    dial     a connection of a port-forward: the network worker dials it and hands it over
    ended    the client has gone, or the command has ended: the runtime kills the rest of the command

From `opened` and `dial` on no byte of a session passes through the front. After a restart of either process the
stream process reports all clients that wait. A front does not start the command of an exec that an earlier front
handed out: it cannot know whether the command has run.
"""

from __future__ import annotations

import logging
from functools import partial

from kernel.contracts import network, runtime, stream
from kernel.contracts.definition import Message, Nothing
from kernel.contracts.stream import Dial, Ended, Kind, Opened, RefuseRequest, Waiting
from kernel.errors import CrispError, FailedPrecondition
from kernel.front import watches
from kernel.front.context import Front
from kernel.front.memory.pending_sessions import Pending
from kernel.front.requests import states
from kernel.front.sessions import urls
from kernel.host.aio import Deadline
from kernel.ids import SessionId, short

_LOG = logging.getLogger(__name__)
_OPEN_SECONDS = 60.0
_DIAL_SECONDS = 30.0
_REPORT_SECONDS = 10.0
"""Seconds that a message to the stream process may take."""
_SHOWN = 4
"""The number of characters of a session's id, which is its token, in names of tasks."""


def begin(front: Front) -> None:
    """Start to watch the stream process."""
    watches.keep(front, watch_stream)


async def watch_stream(front: Front) -> None:
    """Handle each report of the stream process, in a task of its own."""
    await watches.follow("stream", lambda: front.stream.watch(stream.WATCH, Nothing()), partial(_handle, front))


async def _handle(front: Front, event: Message) -> None:
    match event:
        case Waiting(opened=opened, dials=dials):
            # That process or this one has restarted: it must learn of the clients that may still connect.
            for pending in front.sessions.all(urls.now()):
                front.tasks.spawn(_expect_again(front, pending), "expect again")
            for each in (*opened, *dials):
                await _handle(front, each)
        case Opened(session=session):
            front.tasks.spawn(_open(front, event), f"open session {session[:_SHOWN]}")
        case Dial(session=session, connection=connection):
            front.tasks.spawn(_dial(front, event), f"dial for session {session[:_SHOWN]}, {connection}")
        case Ended(session=session, kind=Kind.EXEC):
            front.tasks.spawn(_close(front, session), f"close session {session[:_SHOWN]}")
        case _:
            pass


async def _expect_again(front: Front, pending: Pending) -> None:
    try:
        await front.stream.call(stream.EXPECT, pending.expected, deadline=Deadline.after(_REPORT_SECONDS))
    except CrispError as error:
        _LOG.warning("a session of %s may be lost: %s", short(pending.expected.target), error)


async def _open(front: Front, event: Opened) -> None:
    pending = front.sessions.take(event.session)
    try:
        record = states.running(front.replica.container(event.target))
        deadline = Deadline.after(_OPEN_SECONDS)
        if event.kind is Kind.ATTACH:
            attach = runtime.OpenAttachRequest(session=event.session, container_id=record.id)
            await front.runtime.call(runtime.OPEN_ATTACH, attach, deadline=deadline)
        elif pending is None or pending.expected.target != event.target:
            raise FailedPrecondition("crisp was restarted after this was asked for", hint="ask again")
        else:
            expected = pending.expected
            execution = runtime.OpenExecRequest(
                session=event.session,
                container_id=record.id,
                cmd=pending.command,
                tty=expected.tty,
                stdin=expected.stdin,
                stdout=expected.stdout,
                stderr=expected.stderr,
                width=event.width,
                height=event.height,
            )
            await front.runtime.call(runtime.OPEN_EXEC, execution, deadline=deadline)
    except CrispError as error:
        _LOG.info("container %s: %s failed: %s", short(event.target), event.kind.value, error)
        await _refuse(front, event.session, 0, error)


async def _dial(front: Front, event: Dial) -> None:
    front.sessions.take(event.session)
    try:
        record = states.ready(front.replica.sandbox(event.target))
        request = network.DialRequest(
            session=event.session,
            connection=event.connection,
            sandbox_id=record.id,
            port=event.port,
            host_network=record.host_network,
        )
        await front.network.call(network.DIAL, request, deadline=Deadline.after(_DIAL_SECONDS))
    except CrispError as error:
        _LOG.info("pod %s: port %d: %s", short(event.target), event.port, error)
        await _refuse(front, event.session, event.connection, error)


async def _refuse(front: Front, session_id: SessionId, connection: int, reason: CrispError) -> None:
    request = RefuseRequest(session=session_id, connection=connection, message=str(reason))
    try:
        await front.stream.call(stream.REFUSE, request, deadline=Deadline.after(_REPORT_SECONDS))
    except CrispError as error:
        _LOG.warning("a client does not know that its session failed: %s", error)


async def _close(front: Front, session_id: SessionId) -> None:
    request = runtime.SessionRequest(session=session_id)
    try:
        await front.runtime.call(runtime.CLOSE_SESSION, request, deadline=Deadline.after(_OPEN_SECONDS))
    except CrispError as error:
        _LOG.warning("a command whose client has gone may run on: %s", error)
