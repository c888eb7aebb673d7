"""The TCP socket of the stream process: accepts clients, reads their requests, and joins each to its session.

Before a client has a session, its bytes and its time are limited. If too many clients have none yet, the oldest is
closed: a real client sends its request immediately. A client that misbehaves ends its own connection and no other.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from kernel.config.sections import StreamSection
from kernel.contracts.stream import ExpectRequest, Kind
from kernel.errors import Internal, InvalidInput
from kernel.host import files
from kernel.host.aio import Tasks
from kernel.ids import short
from kernel.stream.client import upgrade
from kernel.stream.client.client_connection import PIECE, ClientConnection, Handler
from kernel.stream.client.tls import Tls
from kernel.stream.client.upgrade import Refused, UpgradeRequest
from kernel.stream.sessions.attach_session import AttachSession
from kernel.stream.sessions.client_session import ClientSession, Service
from kernel.stream.sessions.exec_session import ExecSession
from kernel.stream.sessions.port_forward import PortForward
from kernel.stream.sessions.remote_command import CHANNELS
from kernel.stream.wires.spdy_wire import SpdyWire

_LOG = logging.getLogger(__name__)
MOST_CLIENTS = 2048
"""The most clients that may be connected at once."""
MOST_PENDING = 512
"""The most clients that may have no session yet."""
_REQUEST_SECONDS = 10.0
"""Seconds from a client's connection to its session."""
_BACKLOG = 1024
_LOOK_SECONDS = 5.0
"""Seconds between two searches for sessions that are idle, and for clients that have gone while they are not read."""
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))
_PAUSE = 0.1
"""Seconds without accepting clients if no descriptor is free."""
_KINDS: dict[Kind, type[ExecSession | AttachSession | PortForward]] = {
    Kind.EXEC: ExecSession, Kind.ATTACH: AttachSession, Kind.PORT_FORWARD: PortForward,
}  # fmt: skip


class Server:
    """The socket and its clients. Make it inside a running loop."""

    def __init__(
        self,
        section: StreamSection,
        port_file: Path,
        service: Service,
        take: Callable[[Kind, str], ExpectRequest | None],
        began: Callable[[ClientSession], None],
    ) -> None:
        """Prepare the server. `take` returns the session for a client's token, once; `began` gets it when it has begun.

        Raises Internal if the socket cannot listen, FailedPrecondition if the certificate cannot be used.
        """
        self._service = service
        self._take = take
        self._began = began
        self._idle = section.idle_timeout
        self._tls = Tls(section) if section.tls_cert else None
        self._buffer = memoryview(bytearray(PIECE))
        self._clients: set[ClientConnection] = set()
        self._pending: dict[ClientConnection, Callable[[], object]] = {}
        """Clients without a session, oldest first, each with the timer that ends it."""
        self._timers: dict[ClientConnection, asyncio.TimerHandle] = {}
        self._sessions: dict[ClientConnection, ClientSession] = {}
        self._hung_up_at: dict[ClientConnection, float] = {}
        """Clients that have hung up behind bytes that are not read, and when that was noticed."""
        self._tasks = Tasks()
        self._loop = asyncio.get_running_loop()
        self._socket = _listen(section.address, section.port, port_file)
        self._loop.add_reader(self._socket, self._on_connection)
        self._looking = self._loop.call_later(_LOOK_SECONDS, self._look)
        name, port = self._socket.getsockname()[:2]
        self.base_url = f"{'https' if self._tls else 'http'}://{f'[{name}]' if ':' in name else name}:{port}"

    async def close(self) -> None:
        """Accept no more clients, and end all sessions."""
        self._looking.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        await self._tasks.close()
        for session in list(self._sessions.values()):
            session.close()
        for client in list(self._clients):
            client.abort()

    # Connections.

    def _on_connection(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptor or memory is free: the backlog waits
            _LOG.error("a client cannot be accepted: %s", error.strerror)
            self._loop.remove_reader(self._socket)
            self._loop.call_later(_PAUSE, self._listen_again)
            return
        if len(self._clients) >= MOST_CLIENTS:
            _LOG.warning("a client is refused: there are %d connections", len(self._clients))
            connection.close()
            return
        if len(self._pending) >= MOST_PENDING:
            oldest = next(iter(self._pending))
            self._pending.pop(oldest)()
        connection.setblocking(False)
        with suppress(OSError):  # the client has gone already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for option, value in _KEEPALIVE:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
        client = ClientConnection(self._buffer, self._on_client, self._on_client_end)
        self._clients.add(client)
        self._pending[client] = self._tasks.spawn(self._join(connection, client), "connection").cancel

    def _listen_again(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket, self._on_connection)

    async def _join(self, connection: socket.socket, client: ClientConnection) -> None:
        try:
            if self._tls is None:
                await self._loop.connect_accepted_socket(lambda: client, connection)
            else:
                await self._loop.connect_accepted_socket(
                    lambda: client, connection, ssl=self._tls.context(), ssl_handshake_timeout=_REQUEST_SECONDS
                )
        except (OSError, TimeoutError) as error:  # a handshake that failed
            _LOG.info("a client's connection failed: %s", error)
            self._on_client_end(client)
            connection.close()
        except asyncio.CancelledError:
            self._on_client_end(client)
            connection.close()
            raise

    def _on_client(self, client: ClientConnection) -> Handler:
        if client in self._pending:
            self._pending[client] = client.abort
        self._timers[client] = self._loop.call_later(_REQUEST_SECONDS, client.abort)
        return _Head(client, self._on_request)

    def _on_client_end(self, client: ClientConnection) -> None:
        self._not_pending(client)
        self._clients.discard(client)
        self._sessions.pop(client, None)
        self._hung_up_at.pop(client, None)

    def _not_pending(self, client: ClientConnection) -> None:
        self._pending.pop(client, None)
        if (timer := self._timers.pop(client, None)) is not None:
            timer.cancel()

    # Requests.

    def _on_request(self, client: ClientConnection, head: bytes, rest: bytes) -> None:
        try:
            http_request = upgrade.parse(head)
            expected = self._take(http_request.kind, http_request.token)
            if expected is None:
                raise Refused(404, "no such session: it was never there, was used already, or has expired")
            self._begin(client, head, http_request, expected)
        except Refused as refused:
            _LOG.info("a client is refused: %s", refused.message)
            client.write(upgrade.refusal(refused))
            client.close()
            return
        if rest:
            client.handler.received(memoryview(rest))

    def _begin(
        self, client: ClientConnection, head: bytes, http_request: UpgradeRequest, expected: ExpectRequest
    ) -> None:
        session = _KINDS[expected.kind](expected, http_request, self._service)
        with ExitStack() as failed:
            failed.callback(session.lost)  # its time limits would end it later, without a wire
            if http_request.websocket:
                try:
                    _join_websocket(client, head, http_request, session)
                except InvalidInput as error:
                    raise Refused(400, error.message) from error
            else:
                client.write(upgrade.switching(http_request.protocol))
                session.wire = client.handler = SpdyWire(client, session, client.write)
            failed.pop_all()
        self._not_pending(client)
        self._sessions[client] = session
        self._began(session)

    # Sessions without traffic.

    def _look(self) -> None:
        self._looking = self._loop.call_later(_LOOK_SECONDS, self._look)
        now = self._loop.time()
        for client, session in list(self._sessions.items()):
            if self._idle and now - session.active_at > self._idle:
                _LOG.info("session of %s: ended, idle for %.0f s", short(session.request.target), self._idle)
                session.close()
                client.abort()
            elif client.held and _hung_up(client):
                # Bytes that it sent before may still be delivered. If none were since the last search, none will be.
                if session.active_at <= self._hung_up_at.setdefault(client, now) - _LOOK_SECONDS:
                    client.abort()
            else:
                self._hung_up_at.pop(client, None)


class _Head:
    """A collector of a client's request."""

    def __init__(self, client: ClientConnection, done: Callable[[ClientConnection, bytes, bytes], None]) -> None:
        self._client = client
        self._done = done
        self._bytes = b""

    def received(self, view: memoryview) -> None:
        self._bytes += view[: upgrade.MOST_HEAD + 1]
        end = self._bytes.find(b"\r\n\r\n")
        if end >= 0:
            end += 4
            self._done(self._client, self._bytes[:end], self._bytes[end:] + bytes(view[upgrade.MOST_HEAD + 1 :]))
        elif len(self._bytes) > upgrade.MOST_HEAD:
            self._client.write(upgrade.refusal(Refused(431, f"the request is larger than {upgrade.MOST_HEAD} bytes")))
            self._client.close()

    def writable(self) -> None:
        """Do nothing: nothing waits to be sent."""

    def lost(self) -> None:
        """Do nothing: there is no session yet."""


def _join_websocket(
    client: ClientConnection, head: bytes, http_request: UpgradeRequest, session: ClientSession
) -> None:
    # Imported with the first client that uses this protocol: 2 MB that most nodes never need.
    from kernel.stream.wires.channels_wire import ChannelsWire
    from kernel.stream.wires.websocket import WebSocket

    web = WebSocket(client, head, http_request.protocol)
    client.handler = web
    if http_request.protocol == upgrade.TUNNEL:
        wire = SpdyWire(client, session, web.send)
        session.wire = wire
        web.on_piece = lambda data, first, last, text: wire.received(memoryview(data))
        web.on_lost, web.on_writable = wire.lost, wire.writable
        wire.end = web.close
        return
    if http_request.kind is Kind.PORT_FORWARD:
        ports = session.request.ports or http_request.ports
        channels = tuple(
            {"streamtype": kind, "port": str(port), "requestid": str(number)}
            for number, port in enumerate(ports)
            for kind in ("data", "error")
        )
    else:
        channels = tuple({"streamtype": name} for name in CHANNELS)
    ChannelsWire(web, session, channels, text=http_request.text, closes=http_request.protocol.startswith("v5."))


def _hung_up(client: ClientConnection) -> bool:
    """Whether the client has closed its end, behind bytes that are not read yet."""
    fd = client.fileno()
    if fd < 0:
        return False
    poll = select.poll()
    poll.register(fd, select.POLLRDHUP)
    return bool(poll.poll(0))


def _listen(address: str, port: int, port_file: Path) -> socket.socket:
    """Listen at an address. If any port will do, the last one is used again if it is free, so that URLs stay valid."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    remembered = 0
    if not port:
        with suppress(OSError, ValueError):  # the file does not exist the first time
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
            listener.bind((address, 0))  # another process has the port now
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
