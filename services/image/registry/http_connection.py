"""One HTTP/1.1 connection: h11 reads and writes the protocol, this module the socket. Runs in a job's thread.

Each exchange of a request and its answer has an `h11.Connection` of its own on the same socket. A body of known length
is read from the socket straight into the caller's buffer, without passing through h11: at hundreds of megabytes a
second each copy counts. Errors are OSErrors (BrokenOff, Disconnected, TimeoutError) and `h11.ProtocolError`.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping

import h11

_HEAD_LIMIT = 32 << 10
"""The most bytes of an answer's head, and of a chunk's head."""
_HEADERS = 100
"""The most headers of an answer."""
_INTERIM = 8
"""The most interim answers (1xx) before an answer."""
_RECEIVE_HEAD = 16 << 10
"""The most bytes that are received at a time before the body: the limit of the head is exceeded by no more."""
_RECEIVE_BODY = 64 << 10
_NO_BODY = (204, 304)


class Disconnected(ConnectionError):
    """The server has closed the connection without an answer."""


class BrokenOff(ConnectionError):
    """The server has closed the connection in the middle of a body."""


class TunnelRefused(Exception):
    """The proxy does not connect to the host."""


class HttpConnection:
    """A connection to a server, or to a proxy."""

    def __init__(self, sock: socket.socket) -> None:
        """`sock` is connected; its timeout bounds every wait."""
        self.sock = sock
        self.is_open = True
        self.is_busy = False
        """Whether an answer has not been read to its end, so that its rest could be taken for the next answer."""

    @property
    def is_usable(self) -> bool:
        """Whether another request can be sent."""
        return self.is_open and not self.is_busy

    def tunnel(self, authority: str, headers: Mapping[str, str]) -> None:
        """Have the proxy connect to `authority`, `host:port` (RFC 9110, section 9.3.6), or raise TunnelRefused."""
        exchange = Exchange(self, "CONNECT", authority, {"Host": authority, **headers}, None)
        if not 200 <= exchange.status < 300:
            raise TunnelRefused
        self.is_busy = False

    def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Use TLS from now on, with the server `host`. ssl.SSLError if the handshake fails."""
        # the handshake comes after the assignment, so that another thread can shut the socket down meanwhile
        self.sock = tls = context.wrap_socket(self.sock, server_hostname=host, do_handshake_on_connect=False)
        tls.do_handshake()

    def close(self) -> None:
        """Close the connection; does nothing the second time."""
        self.is_open = False
        self.sock.close()


class Exchange:
    """A request that has been sent and the answer to it, whose head has been read.

    The connection is closed at the end of the body unless it can be used again.
    """

    def __init__(
        self, connection: HttpConnection, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> None:
        """Send the request and read the answer's head."""
        self._connection = connection
        self._method = method
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_LIMIT)
        self._has_received = False
        self._receive = _RECEIVE_HEAD
        self._is_at_end = False
        """Whether the server has closed its side."""
        self.is_finished = False
        """Whether the whole body has been read."""
        connection.is_busy = True
        connection.sock.sendall(self._request(target, headers, body))
        head = self._head()
        self.status = head.status_code
        self.headers = [(name.decode("ascii"), value.decode("latin-1")) for name, value in head.headers]
        """Names, in lower case, and values."""
        self._receive = _RECEIVE_BODY
        self.length = self._length()
        """Bytes of the body; None if the head does not give it."""
        self._left = self.length
        self._buffered = memoryview(b"" if self._left is None else self._protocol.trailing_data[0])
        if self._left == 0 and method != "CONNECT":
            self._finish()

    def readinto(self, buffer: memoryview) -> int:
        """Read the bytes of the body that have arrived, waiting for at least one; return their number.

        It is 0 at the end, and if the connection breaks before the end of a body of known length.
        """
        if self.is_finished:
            return 0
        if self._left is None:
            return self._readinto_by_events(buffer)
        if self._buffered:
            count = self._take(buffer[: self._left])
        else:
            count = self._connection.sock.recv_into(buffer[: self._left])
        if not count:
            self.abandon()
            return 0
        self._left -= count
        if not self._left:
            self._finish()
        return count

    def abandon(self) -> None:
        """Close the connection, whatever is left to read."""
        self.is_finished = True
        self._connection.close()

    def _request(self, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        framed = {**headers, **({} if body is None else {"Content-Length": str(len(body))})}
        events: list[h11.Event] = [h11.Request(method=self._method, target=target, headers=list(framed.items()))]
        events += [] if body is None else [h11.Data(data=body)]
        return b"".join(self._protocol.send(event) or b"" for event in (*events, h11.EndOfMessage()))

    def _head(self) -> h11.Response:
        for _ in range(_INTERIM + 1):
            event = self._next_event()
            if isinstance(event, h11.Response):
                if len(event.headers) > _HEADERS:
                    raise h11.RemoteProtocolError("too many headers")
                return event
        raise h11.RemoteProtocolError("too many interim answers")

    def _length(self) -> int | None:
        if self.status in _NO_BODY or self._method == "CONNECT":
            return 0
        values = dict(self.headers)
        if "transfer-encoding" in values or "content-length" not in values:
            return None
        return int(values["content-length"])  # h11 has checked it

    def _readinto_by_events(self, buffer: memoryview) -> int:
        while not self._buffered:
            event = self._next_event()
            if not isinstance(event, h11.Data):
                self._finish()
                return 0
            self._buffered = memoryview(event.data)
        return self._take(buffer)

    def _take(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._buffered))
        buffer[:count] = self._buffered[:count]
        self._buffered = self._buffered[count:]
        return count

    def _next_event(self) -> object:
        while (event := self._protocol.next_event()) is h11.NEED_DATA:
            data = self._connection.sock.recv(self._receive)
            if not self._has_received:
                _check_begin(data)
                self._has_received = True
            self._protocol.receive_data(data)
            if not data:
                self._is_at_end = True
                try:
                    return self._protocol.next_event()
                except h11.RemoteProtocolError as error:
                    if self._receive == _RECEIVE_HEAD:
                        raise
                    raise BrokenOff("incomplete body") from error
        return event

    def _finish(self) -> None:
        """Close the connection unless it can be used again: both sides are done, and nothing came after the body."""
        self.is_finished = True
        self._connection.is_busy = False
        is_kept = self._protocol.our_state is h11.DONE and not self._is_at_end
        if self._left is None:
            is_kept = is_kept and self._protocol.their_state is h11.DONE and not self._protocol.trailing_data[0]
        if not is_kept or self._buffered:
            self._connection.close()


def _check_begin(data: bytes) -> None:
    """Check the first bytes of an answer: another protocol need not send what h11 takes for the end of a head."""
    if not data:
        raise Disconnected("no answer")
    if not data.startswith(b"HTTP/"[: len(data)]):
        raise h11.RemoteProtocolError("not HTTP")
