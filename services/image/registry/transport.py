"""Connections to registries: http.client with our limits, in a thread of the worker's pool.

It takes 1 MB where an asyncio client takes 9 to 11, follows nothing and decodes nothing by itself, and reads at
the speed of the socket. One `Transport` serves one job in one thread; the event loop may only `abort` it. Every
wait for a byte ends after the progress timeout; the job as a whole ends when its caller's deadline aborts it.
Errors name the host and a reason in our own words, never a byte of what the registry sent.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from http import HTTPStatus
from typing import TypeVar

from kernel.errors import Cancelled, Unavailable
from services.image.registry import address
from services.image.registry.address import Distance, Origin, Url
from services.image.registry.proxies import Proxies, Proxy

_T = TypeVar("_T")
_CONNECT_TIMEOUT = 15.0
_DRAIN_LIMIT = 64 << 10
_DRAIN_TIMEOUT = 2.0
_HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]{0,16384}")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REDIRECT_LIMIT = 5


class Passing(Exception):
    """As the cause of an error: the network or a busy server was in the way; asked again, it may go well."""


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed in a moment."""
    return isinstance(error.__cause__, Passing)


TlsContexts = Callable[[bool], ssl.SSLContext]
"""The TLS context for one endpoint; called with whether certificates are verified."""


class Response:
    """An answer whose header has been read; its body is read in pieces or dropped."""

    def __init__(self, raw: http.client.HTTPResponse, connection: http.client.HTTPConnection, host: str) -> None:
        self._raw = raw
        self._connection = connection
        self.host = host
        self.status = raw.status
        self.length = self._content_length()
        for name, value in raw.getheaders():
            if not _HEADER_VALUE.fullmatch(value):
                self.close()
                raise Unavailable(f"registry {host}: its header {name[:40]!a} is malformed")

    def header(self, name: str) -> str:
        """A header's value; empty where there is none."""
        return self._raw.getheader(name, "") or ""

    def headers(self, name: str) -> list[str]:
        """The values of a header that may be given several times."""
        return self._raw.headers.get_all(name, [])

    def readinto(self, buffer: memoryview) -> int:
        """Read the bytes of the body that have come, waiting for one; 0 at its end. Unavailable where it stalls."""
        return _guarded(self.host, lambda: self._readinto(buffer))

    def _readinto(self, buffer: memoryview) -> int:
        if self._raw.isclosed():
            return 0
        if self._raw.chunked or self.length is None or self._raw.length is None:
            return self._raw.readinto(buffer)
        # HTTPResponse.readinto waits until the buffer is full, and a break loses what it had
        count = self._raw.fp.readinto1(buffer[: self._raw.length])
        self._raw.length -= count
        if not self._raw.length:
            self._raw.readinto(buffer[:0])  # it notices its end
        return count

    def read(self, limit: int) -> bytes:
        """The whole body; Unavailable where it is longer than `limit`."""
        body = _guarded(self.host, lambda: self._raw.read(limit + 1))
        if len(body) > limit:
            self.close()
            raise Unavailable(f"registry {self.host}: its answer is longer than {limit} bytes")
        if self.length is not None and len(body) != self.length:
            raise Unavailable(
                f"registry {self.host}: broke off after {len(body)} of {self.length} bytes"
            ) from Passing()
        return body

    def close(self) -> None:
        """Done with this answer: keep the connection where little is left to read, else close it."""
        sock = self._connection.sock
        little = self.length is not None and self.length <= _DRAIN_LIMIT
        if little and sock is not None and not self._raw.isclosed():
            with suppress(OSError, http.client.HTTPException):  # then it is closed below
                sock.settimeout(_DRAIN_TIMEOUT)
                self._raw.read(self.length)
                sock.settimeout(self._connection.timeout)
        if not self._raw.isclosed():
            self.abandon()

    def abandon(self) -> None:
        """Done with this answer and its connection, whatever is left to read."""
        self._raw.close()
        self._connection.close()

    def _content_length(self) -> int | None:
        texts = self.headers("Content-Length")
        if not texts or self._raw.chunked:
            return None
        if len(texts) > 1 or not re.fullmatch(r"[0-9]{1,18}", texts[0].strip(), re.ASCII):
            self.length = None
            self.close()
            raise Unavailable(f"registry {self.host}: its header 'Content-Length' is malformed")
        return int(texts[0])


class Transport:
    """The connections of one job to one endpoint and to the hosts that it names."""

    def __init__(self, tls: TlsContexts, *, insecure: bool, timeout: float, proxies: Proxies | None = None) -> None:
        """`timeout`: seconds to wait for a byte."""
        self._tls = tls
        self._proxies = proxies or Proxies()
        self._insecure = insecure
        self.timeout = timeout
        self._connections: dict[Origin, http.client.HTTPConnection] = {}
        self._lock = threading.Lock()
        self._aborted = False
        self._home: Origin | None = None
        self._distance = Distance.PUBLIC

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections.values():
            connection.close()

    def abort(self) -> None:
        """From another thread: make whatever the job waits for fail at once."""
        with self._lock:
            self._aborted = True
            for connection in self._connections.values():
                if connection.sock is not None:
                    with suppress(OSError):  # not connected any more
                        # past SSLSocket's own shutdown, which would take the TLS state from under the reader
                        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def open(self, registry: str, schemes: MutableMapping[str, str]) -> Origin:
        """Connect to the endpoint, `host[:port]`: https, and http after it where the endpoint is insecure.

        `schemes` keeps which one an insecure registry spoke, so that a later job does not knock in vain.
        """
        if not self._insecure:
            self._home = address.origin("https", registry)
            self._connect(self._home, credentials=False)
            return self._home
        order = ("http", "https") if schemes.get(registry) == "http" else ("https", "http")
        for scheme in order:
            self._home = address.origin(scheme, registry)
            try:
                self._connect(self._home, credentials=False)
            except Unavailable:
                schemes.pop(registry, None)
                if scheme == order[-1]:
                    raise
            else:
                schemes[registry] = scheme
                return self._home
        raise AssertionError("unreachable: the last scheme returns or raises")

    def get(self, url: Url, headers: Mapping[str, str], *, authorization: str = "") -> Response:
        """GET from the endpoint, following redirects. `authorization` goes to the endpoint's own origin only."""
        current = url
        for _ in range(_REDIRECT_LIMIT + 1):
            if current.origin != url.origin:
                authorization = ""  # for good: a way back must not get it either
            response = self._request("GET", current, headers, authorization, None)
            if response.status not in _REDIRECTS:
                return _identity(response)
            location, host = response.header("Location"), response.host
            response.close()
            try:
                current = address.redirect(current, location)
            except address.BadAddress as error:
                raise Unavailable(f"registry {host}: it redirects where crisp does not follow: {error}") from error
        raise Unavailable(f"registry {url.origin}: more than {_REDIRECT_LIMIT} redirects")

    def ask(self, url: Url, *, authorization: str = "", form: bytes | None = None) -> Response:
        """Ask a token server, which must answer by itself."""
        extra = {} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}
        response = self._request("GET" if form is None else "POST", url, extra, authorization, form)
        if response.status in _REDIRECTS:
            response.close()
            raise Unavailable(f"token server {response.host}: it redirects, which crisp does not follow")
        return _identity(response)

    def _request(
        self, method: str, url: Url, headers: Mapping[str, str], authorization: str, body: bytes | None
    ) -> Response:
        self._check(url.origin)
        sent = {**headers, "Accept-Encoding": "identity", "User-Agent": "crisp"}
        if authorization:
            sent["Authorization"] = authorization
        host = str(url.origin)
        known = self._connections.get(url.origin)
        if known is not None and known.sock is None:  # closed after its last answer
            self._drop(url.origin)
            known = None
        reused = known is not None
        try:
            return self._send(method, url, sent, body, credentials=bool(authorization))
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
            self._drop(url.origin)
            if not reused or self._aborted:
                raise self._gone(host, error) from _cause(error)
        # the server ended a connection that had been idle: once more on a new one
        return _guarded(host, lambda: self._send(method, url, sent, body, credentials=bool(authorization)))

    def _send(
        self, method: str, url: Url, headers: Mapping[str, str], body: bytes | None, *, credentials: bool
    ) -> Response:
        connection = self._connections.get(url.origin) or self._connect(url.origin, credentials=credentials)
        host = str(url.origin)
        proxy = self._proxies.to(url.origin) if url.origin.scheme == "http" else None
        target = f"http://{url.origin}{url.target}" if proxy else url.target
        sent = {**headers, **(proxy.headers if proxy else {})}
        try:
            connection.request(method, target, body=body, headers=sent)
            return Response(connection.getresponse(), connection, host)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._drop(url.origin)
            raise self._gone(host, error) from _cause(error)

    def _connect(self, origin: Origin, *, credentials: bool) -> http.client.HTTPConnection:
        connect_timeout = min(_CONNECT_TIMEOUT, self.timeout)
        connection: http.client.HTTPConnection
        if origin.scheme == "https":
            own = self._home is not None and origin.host == self._home.host
            context = self._tls(not (self._insecure and own))
            connection = http.client.HTTPSConnection(origin.host, origin.port, timeout=connect_timeout, context=context)
        else:
            connection = http.client.HTTPConnection(origin.host, origin.port, timeout=connect_timeout)
        proxy = self._proxies.to(origin)
        if proxy is None:
            sock = self._socket(origin, connect_timeout, credentials=credentials)
        else:
            sock = self._to_proxy(proxy, origin, connect_timeout, credentials=credentials)
            if origin.scheme == "https":
                connection.set_tunnel(origin.host, origin.port, proxy.headers)
        # http.client's hook for the TCP connection: the address was checked, and must be the one that is used
        connection._create_connection = lambda *_: sock  # type: ignore[attr-defined]
        with self._lock:
            self._connections[origin] = connection
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            self._drop(origin)
            raise Unavailable(
                f"registry {origin}: its certificate is not trusted: {error.verify_message}",
                hint="put its CA into the certs_dir of the configuration",
            ) from error
        except (ssl.SSLError, ConnectionError) as error:
            self._drop(origin)
            _end(sock)
            reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            raise Unavailable(f"registry {origin}: TLS failed: {reason or 'the connection was closed'}") from (
                Passing() if isinstance(error, ConnectionError) else error
            )
        except OSError as error:
            self._drop(origin)
            _end(sock)
            if proxy is not None and error.errno is None and not isinstance(error, TimeoutError):
                # what http.client says when CONNECT is refused, in the proxy's own words
                raise Unavailable(f"registry {origin}: the proxy {proxy} does not lead there") from None
            raise self._gone(str(origin), error) from _cause(error)
        connection.timeout = self.timeout
        connection.sock.settimeout(self.timeout)
        self._check(origin)
        return connection

    def _socket(self, origin: Origin, timeout: float, *, credentials: bool) -> socket.socket:
        """A TCP connection to the first address of the host that is allowed and answers."""
        try:
            found = socket.getaddrinfo(origin.host.rstrip("."), origin.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Unavailable(f"registry {origin}: its name cannot be resolved: {_reason(error)}") from Passing()
        last: OSError | None = None
        for family, kind, protocol, _, place in found:
            distance = address.distance(str(place[0]))
            if origin != self._home and not address.may_lead_to(self._distance, distance, credentials=credentials):
                raise Unavailable(
                    f"registry {self._home}: it names the host {origin}, which is {distance.name.lower()} to this "
                    "machine: not followed"
                )
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(timeout)
                sock.connect(place)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                sock.close()
                last = error
                continue
            if origin == self._home:
                self._distance = distance
            return sock
        raise Unavailable(f"registry {origin}: cannot be reached: {_reason(last)}") from Passing()

    def _to_proxy(self, proxy: Proxy, origin: Origin, timeout: float, *, credentials: bool) -> socket.socket:
        """A TCP connection to the proxy. It looks names up itself: here, addresses alone can be judged."""
        try:
            distance = address.distance(origin.host)
        except ValueError:
            distance = Distance.PUBLIC
        if origin == self._home:
            self._distance = distance
        elif not address.may_lead_to(self._distance, distance, credentials=credentials):
            raise Unavailable(
                f"registry {self._home}: it names the host {origin}, which is {distance.name.lower()}: not followed"
            )
        try:
            sock = socket.create_connection((proxy.host, proxy.port), timeout)
        except (OSError, UnicodeError) as error:
            raise Unavailable(f"registry {origin}: proxy {proxy}: cannot be reached: {_reason(error)}") from Passing()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _check(self, origin: Origin) -> None:
        """Cancelled once the job was aborted: a moment in which there was no socket to end may have passed."""
        if self._aborted:
            self._drop(origin)
            raise Cancelled(f"registry {origin}: given up")

    def _drop(self, origin: Origin) -> None:
        with self._lock:
            connection = self._connections.pop(origin, None)
        if connection is not None:
            connection.close()

    def _gone(self, host: str, error: Exception) -> Exception:
        if self._aborted:
            return Cancelled(f"registry {host}: given up")
        return Unavailable(f"registry {host}: {_reason(error)}")


def status_text(status: int) -> str:
    """A status in words that are ours, not the registry's."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _end(sock: socket.socket) -> None:
    """Close a socket now, even where http.client left a reader of a refused CONNECT behind, which keeps it open."""
    if (fd := sock.detach()) >= 0:
        os.close(fd)


def _identity(response: Response) -> Response:
    """Refuse an answer whose bytes are not what they stand for."""
    encoding = response.header("Content-Encoding").strip().lower()
    if encoding in ("", "identity"):
        return response
    response.close()
    raise Unavailable(f"registry {response.host}: it sent an encoded answer ({encoding[:40]!a}), unasked")


def _guarded(host: str, step: Callable[[], _T]) -> _T:
    try:
        return step()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(f"registry {host}: {_reason(error)}") from _cause(error)


def _cause(error: Exception) -> Exception:
    passing = isinstance(error, OSError | http.client.IncompleteRead | http.client.RemoteDisconnected)
    return Passing() if passing else error


def _reason(error: Exception | None) -> str:
    """Why a connection failed. The texts of http.client repeat what was received, so they are not used."""
    match error:
        case None:
            return "it has no address"
        case TimeoutError():
            return "stalled: no byte within the progress timeout"
        case http.client.IncompleteRead():
            return "broke off before the end"
        case ConnectionResetError() | BrokenPipeError() | http.client.RemoteDisconnected():
            return "closed the connection"
        case http.client.HTTPException():
            return f"does not speak HTTP as it should ({type(error).__name__})"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or 'the connection was closed'}"
        case OSError():
            return error.strerror or type(error).__name__
        case _:
            return type(error).__name__
