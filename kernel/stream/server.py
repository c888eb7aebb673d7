"""The socket that clients come to: takes connections, reads their requests, and joins each to its session.

Every connection is bounded in what it may send before it has a session, and in the time that it may take for it;
their number is bounded too: where strangers are too many, the one that has waited longest makes room, for a client that
means it asks at once. What a client does wrong ends its own connection and no other.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kernel.config.sections import StreamSection
from kernel.contracts.stream import ExpectRequest, Kind
from kernel.errors import Internal, InvalidInput
from kernel.host import files
from kernel.host.aio import Tasks
from kernel.ids import short
from kernel.stream.client import upgrade
from kernel.stream.client.link import PIECE, Handler, Link
from kernel.stream.client.tls import Tls
from kernel.stream.client.upgrade import Refused, Request
from kernel.stream.session import Host, Session
from kernel.stream.sessions.port_forward import PortForward
from kernel.stream.sessions.remote_command import CHANNELS, RemoteCommand
from kernel.stream.wires.spdy_wire import SpdyWire

_LOG = logging.getLogger(__name__)
MOST_LINKS = 2048
"""Connections at once."""
MOST_STRANGERS = 512
"""Of those that have no session."""
_REQUEST_SECONDS = 10.0
"""What a client may take from its connection to its session."""
_BACKLOG = 1024
_LOOK_SECONDS = 5.0
"""How often sessions are looked at that do nothing, or whose client is not read."""
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))
_PAUSE = 0.1
"""Seconds without taking connections where no descriptor is free."""


class Server:
    """The socket and its connections. Make it inside a running loop."""

    def __init__(
        self,
        section: StreamSection,
        port_file: Path,
        host: Host,
        take: Callable[[Kind, str], ExpectRequest | None],
        began: Callable[[Session], None],
    ) -> None:
        """`take` gives what a client with a token came for; `began` gets its session."""
        self._host = host
        self._take = take
        self._began = began
        self._idle = section.idle_timeout
        self._tls = Tls(section) if section.tls_cert else None
        self._buffer = memoryview(bytearray(PIECE))
        self._links: set[Link] = set()
        self._strangers: dict[Link, Callable[[], object]] = {}
        """Those without a session, oldest first, each with what ends it."""
        self._timers: dict[Link, asyncio.TimerHandle] = {}
        self._sessions: dict[Link, Session] = {}
        self._half_gone: dict[Link, float] = {}
        self._tasks = Tasks()
        self._loop = asyncio.get_running_loop()
        self._socket = _listen(section.address, section.port, port_file)
        self._loop.add_reader(self._socket, self._on_connection)
        self._looking = self._loop.call_later(_LOOK_SECONDS, self._look)
        name, port = self._socket.getsockname()[:2]
        self.base_url = f"{'https' if self._tls else 'http'}://{f'[{name}]' if ':' in name else name}:{port}"

    async def close(self) -> None:
        """Take no more, and end what there is."""
        self._looking.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        await self._tasks.close()
        for session in list(self._sessions.values()):
            session.close()
        for link in list(self._links):
            link.abort()

    # Connections.

    def _on_connection(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptor or memory is free: the backlog waits
            _LOG.error("a client cannot be taken: %s", error.strerror)
            self._loop.remove_reader(self._socket)
            self._loop.call_later(_PAUSE, self._listen_again)
            return
        if len(self._links) >= MOST_LINKS:
            _LOG.warning("a client is refused: there are %d connections", len(self._links))
            connection.close()
            return
        if len(self._strangers) >= MOST_STRANGERS:
            oldest = next(iter(self._strangers))
            self._strangers.pop(oldest)()
        connection.setblocking(False)
        with suppress(OSError):  # it has gone already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for option, value in _KEEPALIVE:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
        link = Link(self._buffer, self._on_link, self._on_link_end)
        self._links.add(link)
        self._strangers[link] = self._tasks.spawn(self._join(connection, link), "connection").cancel

    def _listen_again(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket, self._on_connection)

    async def _join(self, connection: socket.socket, link: Link) -> None:
        try:
            if self._tls is None:
                await self._loop.connect_accepted_socket(lambda: link, connection)
            else:
                await self._loop.connect_accepted_socket(
                    lambda: link, connection, ssl=self._tls.context(), ssl_handshake_timeout=_REQUEST_SECONDS
                )
        except (OSError, TimeoutError) as error:  # a handshake that failed
            _LOG.info("a client's connection failed: %s", error)
            self._on_link_end(link)
            connection.close()
        except asyncio.CancelledError:
            self._on_link_end(link)
            connection.close()
            raise

    def _on_link(self, link: Link) -> Handler:
        if link in self._strangers:
            self._strangers[link] = link.abort
        self._timers[link] = self._loop.call_later(_REQUEST_SECONDS, link.abort)
        return _Head(link, self._on_request)

    def _on_link_end(self, link: Link) -> None:
        self._known(link)
        self._links.discard(link)
        self._sessions.pop(link, None)
        self._half_gone.pop(link, None)

    def _known(self, link: Link) -> None:
        """It is no stranger any more."""
        self._strangers.pop(link, None)
        if (timer := self._timers.pop(link, None)) is not None:
            timer.cancel()

    # Requests.

    def _on_request(self, link: Link, head: bytes, rest: bytes) -> None:
        try:
            asked = upgrade.parse(head)
            expected = self._take(asked.kind, asked.token)
            if expected is None:
                raise Refused(404, "no such session: it was never there, was used already, or has expired")
            self._begin(link, head, asked, expected)
        except Refused as refused:
            _LOG.info("a client is refused: %s", refused.message)
            link.write(upgrade.refusal(refused))
            link.close()
            return
        if rest:
            link.handler.received(memoryview(rest))

    def _begin(self, link: Link, head: bytes, asked: Request, expected: ExpectRequest) -> None:
        session: Session
        if expected.kind is Kind.PORT_FORWARD:
            session = PortForward(expected, asked, self._host)
        else:
            session = RemoteCommand(expected, asked, self._host)
        if asked.websocket:
            try:
                _join_websocket(link, head, asked, session)
            except InvalidInput as error:
                session.lost()
                raise Refused(400, error.message) from error
        else:
            link.write(upgrade.switching(asked.protocol))
            session.wire = link.handler = SpdyWire(link, session, link.write)
        self._known(link)
        self._sessions[link] = session
        self._began(session)

    # Sessions that nothing is heard of.

    def _look(self) -> None:
        self._looking = self._loop.call_later(_LOOK_SECONDS, self._look)
        now = self._loop.time()
        for link, session in list(self._sessions.items()):
            if self._idle and now - session.active_at > self._idle:
                _LOG.info("a session of %s is ended: it was idle for %.0f s", short(session.request.target), self._idle)
                session.close()
                link.abort()
            elif link.held and _hung_up(link):
                # What it has sent may still go through; where nothing has since the last look, nothing will.
                if session.active_at <= self._half_gone.setdefault(link, now) - _LOOK_SECONDS:
                    link.abort()
            else:
                self._half_gone.pop(link, None)


class _Head:
    """Gathers a request."""

    def __init__(self, link: Link, done: Callable[[Link, bytes, bytes], None]) -> None:
        self._link = link
        self._done = done
        self._bytes = b""

    def received(self, view: memoryview) -> None:
        self._bytes += view[: upgrade.MOST_HEAD + 1]
        end = self._bytes.find(b"\r\n\r\n")
        if end >= 0:
            end += 4
            self._done(self._link, self._bytes[:end], self._bytes[end:] + bytes(view[upgrade.MOST_HEAD + 1 :]))
        elif len(self._bytes) > upgrade.MOST_HEAD:
            self._link.write(upgrade.refusal(Refused(431, f"the request is larger than {upgrade.MOST_HEAD} bytes")))
            self._link.close()

    def writable(self) -> None:
        """Nothing waits."""

    def lost(self) -> None:
        """Nobody is to be told."""


def _join_websocket(link: Link, head: bytes, asked: Request, session: Session) -> None:
    # Imported with the first client that speaks it: 2 MB that most nodes never need.
    from kernel.stream.wires.channels_wire import ChannelsWire
    from kernel.stream.wires.websocket import WebSocket

    web = WebSocket(link, head, asked.protocol)
    link.handler = web
    if asked.protocol == upgrade.TUNNEL:
        wire = SpdyWire(link, session, web.send)
        session.wire = wire
        web.on_piece = lambda data, first, last, text: wire.received(memoryview(data))
        web.on_lost, web.on_writable = wire.lost, wire.writable
        wire.end = web.close
        return
    if asked.kind is Kind.PORT_FORWARD:
        ports = session.request.ports or asked.ports
        of = tuple(
            {"streamtype": kind, "port": str(port), "requestid": str(number)}
            for number, port in enumerate(ports)
            for kind in ("data", "error")
        )
    else:
        of = tuple({"streamtype": name} for name in CHANNELS)
    ChannelsWire(web, session, of, text=asked.text, closes=asked.protocol.startswith("v5."))


def _hung_up(link: Link) -> bool:
    """Whether the client has closed its end, behind what is not read yet."""
    fd = link.fileno()
    if fd < 0:
        return False
    poll = select.poll()
    poll.register(fd, select.POLLRDHUP)
    return bool(poll.poll(0))


def _listen(address: str, port: int, port_file: Path) -> socket.socket:
    """A socket at the address; at the port of the last time where any will do, so that URLs stay good."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    remembered = 0
    if not port:
        with suppress(OSError, ValueError):  # the first time
            remembered = int(port_file.read_text())
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setblocking(False)
    try:
        try:
            listener.bind((address, port or remembered))
        except OSError:
            if not remembered:
                raise
            listener.bind((address, 0))  # somebody else has it now
        listener.listen(_BACKLOG)
        if not port:
            files.replace(port_file, f"{listener.getsockname()[1]}\n".encode(), durable=False, mode=0o644)
    except OSError as error:
        listener.close()
        raise Internal(
            f"the stream server cannot listen at {address} port {port}: {error.strerror}",
            hint="see stream.address and stream.port in the configuration",
        ) from error
    return listener


def boot_ns() -> int:
    """The boot-time clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
