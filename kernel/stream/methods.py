"""The stream process's entry point and its methods on the bus.

It runs as a user of its own without capabilities; it may bind its TCP port and write in its own folder. It parses data
from any client that reaches its port, so it holds nothing but open sessions: it calls no other process, starts none and
opens no file but its certificate. Only processes of root send descriptors to it.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from contextlib import suppress

from kernel.bus.worker import Call
from kernel.config.sections import Config
from kernel.contracts.definition import Nothing
from kernel.contracts.stream import Dial, Ended, Expected, ExpectRequest, Kind, Opened, Passed, RefuseRequest, Waiting
from kernel.errors import InvalidInput
from kernel.host import fdpass
from kernel.ids import SessionId, session_id
from kernel.stream.client.client_connection import PIECE
from kernel.stream.client.tokens import Tokens
from kernel.stream.server import Server
from kernel.stream.sessions.client_session import ClientSession

_LOG = logging.getLogger(__name__)
_Event = Waiting | Opened | Dial | Ended


class StreamService:
    """The server of `kernel.contracts.stream`."""

    def __init__(self, config: Config) -> None:
        self.buffer = memoryview(bytearray(PIECE))
        self._tokens = Tokens()
        self._sessions: dict[SessionId, ClientSession] = {}
        self._watchers: set[asyncio.Queue[_Event]] = set()
        self._server = Server(config.stream, config.paths.stream_port, self, self._take, self._on_session)
        self._receiver = fdpass.Receiver(config.paths.stream_fds, self._on_descriptors)

    async def close(self) -> None:
        """End all sessions."""
        self._receiver.close()
        await self._server.close()

    # The bus.

    async def expect(self, request: ExpectRequest, call: Call) -> Expected:
        """Expect the client of a session. Raises ResourceExhausted if too many are expected."""
        session_id(request.session)
        if request.session not in self._sessions:
            self._tokens.expect(request, _boot_ns())
        return Expected(base_url=self._server.base_url)

    async def refuse(self, request: RefuseRequest, call: Call) -> Nothing:
        """End what waits for descriptors that will not come: a session or a connection."""
        session = self._sessions.get(request.session)
        if session is not None:
            session.refused(request.connection, request.message)
        return Nothing()

    async def watch(self, request: Nothing, call: Call) -> Nothing:
        """Send all that sessions wait for, then each event."""
        events: asyncio.Queue[_Event] = asyncio.Queue()
        waiting = [event for session in self._sessions.values() for event in session.pending()]
        events.put_nowait(
            Waiting(
                opened=tuple(event for event in waiting if isinstance(event, Opened)),
                dials=tuple(event for event in waiting if isinstance(event, Dial)),
            )
        )
        self._watchers.add(events)
        try:
            while True:
                await call.progress(await events.get())
        finally:
            self._watchers.discard(events)

    # Sessions.

    def report(self, event: Opened | Dial) -> None:
        """Send to the front what a session waits for."""
        self._send(event)

    def ended(self, session: ClientSession) -> None:
        """Forget a session that is over, and report its end."""
        if self._sessions.get(session.request.session) is session:
            del self._sessions[session.request.session]
            self._send(session.ended_event())

    def _send(self, event: _Event) -> None:
        for events in self._watchers:
            events.put_nowait(event)

    def _take(self, kind: Kind, token: str) -> ExpectRequest | None:
        return self._tokens.take(kind, token, _boot_ns())

    def _on_session(self, session: ClientSession) -> None:
        self._sessions[session.request.session] = session

    def _on_descriptors(self, message: bytes, fds: list[int]) -> bool:
        try:
            passed = Passed.decode(message)
        except InvalidInput as error:
            _LOG.error("%s", error)
            return False
        session = self._sessions.get(passed.session)
        if session is None or len(passed.roles) != len(fds):
            return False
        return session.passed(passed, fds)


async def create(config: Config) -> StreamService:
    """Return the service, which listens."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # each session has up to eight descriptors
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return StreamService(config)


def _boot_ns() -> int:
    """Return the boot-time clock, in nanoseconds. No changed clock and no sleeping machine prolongs a token."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
