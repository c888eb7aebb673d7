"""Requests to registries over the connections of one job, in a thread of the worker's pool.

h11 takes half a megabyte where an asyncio client takes 9 to 11, and follows and decodes nothing by itself; bodies are
read at the speed of the socket (`http_connection`). One `Transport` serves one job in one thread; the event loop may
only `abort` it. Every wait for a byte ends after the progress timeout; the job as a whole ends when its caller's
deadline aborts it. Errors name the host and a reason in crisp's own words, never a byte of what the registry sent.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress

import h11

from kernel.errors import Cancelled, Unavailable
from services.image.registry import address
from services.image.registry.address import Origin, Url
from services.image.registry.failures import cause_of, guarded, reason_of, tls_reason
from services.image.registry.http_connection import Disconnected, Exchange, HttpConnection, TunnelRefused
from services.image.registry.proxies import Proxies
from services.image.registry.response import Response
from services.image.registry.sockets import Sockets, shut_down

_CONNECT_TIMEOUT = 15.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REDIRECT_LIMIT = 5
_DISCONNECTED = (Disconnected, BrokenPipeError, ConnectionResetError)

TlsContexts = Callable[[bool], ssl.SSLContext]
"""Returns the TLS context for one endpoint; its argument is whether certificates are verified."""


class Transport:
    """The connections of one job to one endpoint and to the hosts that it names."""

    def __init__(self, tls: TlsContexts, *, insecure: bool, timeout: float, proxies: Proxies | None = None) -> None:
        """`timeout`: seconds to wait for a byte."""
        self._tls = tls
        self._proxies = proxies or Proxies()
        self._insecure = insecure
        self.timeout = timeout
        self._sockets = Sockets()
        self._connections: dict[Origin, HttpConnection] = {}
        self._lock = threading.Lock()
        self._aborted = False

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections.values():
            connection.close()

    def abort(self) -> None:
        """Make whatever the job waits for fail at once. Called from another thread."""
        with self._lock:
            self._aborted = True
            for connection in self._connections.values():
                with suppress(OSError):  # it is not connected any more
                    shut_down(connection.sock)

    def open(self, registry: str, schemes: MutableMapping[str, str]) -> Origin:
        """Connect to the endpoint, `host[:port]`: over https, and if it is insecure over http after that.

        `schemes` keeps which of the two an insecure registry serves, so that a later job does not try the other first.
        """
        if not self._insecure:
            home = self._sockets.home = address.origin("https", registry)
            self._connect(home, credentials=False)
            return home
        order = ("http", "https") if schemes.get(registry) == "http" else ("https", "http")
        for scheme in order:
            home = self._sockets.home = address.origin(scheme, registry)
            try:
                self._connect(home, credentials=False)
            except Unavailable:
                schemes.pop(registry, None)
                if scheme == order[-1]:
                    raise
            else:
                schemes[registry] = scheme
                return home
        raise AssertionError("unreachable: the last scheme returns or raises")

    def get(self, url: Url, headers: Mapping[str, str], *, authorization: str = "") -> Response:
        """GET from the endpoint, following redirects. `authorization` is sent to the endpoint's own origin only."""
        current = url
        for _ in range(_REDIRECT_LIMIT + 1):
            if current.origin != url.origin:
                authorization = ""  # also later: if a redirect leads back, it is not sent either
            response = self._request("GET", current, headers, authorization, None)
            if response.status not in _REDIRECTS:
                return _not_encoded(response)
            location, host = response.header("Location"), response.host
            response.close()
            try:
                current = address.redirect(current, location)
            except address.BadAddress as error:
                raise Unavailable(f"registry {host}: crisp does not follow its redirect: {error}") from error
        raise Unavailable(f"registry {url.origin}: more than {_REDIRECT_LIMIT} redirects")

    def ask_token_server(self, url: Url, *, authorization: str = "", form: bytes | None = None) -> Response:
        """GET from a token server, or POST a form to it. It must answer without a redirect."""
        extra = {} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}
        response = self._request("GET" if form is None else "POST", url, extra, authorization, form)
        if response.status in _REDIRECTS:
            response.close()
            raise Unavailable(f"token server {response.host}: it redirects, which crisp does not follow")
        return _not_encoded(response)

    def _request(
        self, method: str, url: Url, headers: Mapping[str, str], authorization: str, body: bytes | None
    ) -> Response:
        self._check(url.origin)
        sent = {**headers, "Accept-Encoding": "identity", "User-Agent": "crisp"}
        if authorization:
            sent["Authorization"] = authorization
        host = str(url.origin)
        known = self._connections.get(url.origin)
        if known is not None and not known.is_usable:  # closed after its last answer, or that was not read to its end
            self._drop(url.origin)
            known = None
        reused = known is not None
        try:
            return self._send(method, url, sent, body, credentials=bool(authorization))
        except _DISCONNECTED as error:
            self._drop(url.origin)
            if not reused or self._aborted:
                raise self._failed(host, error) from cause_of(error)
        # the server has closed a connection that was idle: once more on a new one
        return guarded(host, lambda: self._send(method, url, sent, body, credentials=bool(authorization)))

    def _send(
        self, method: str, url: Url, headers: Mapping[str, str], body: bytes | None, *, credentials: bool
    ) -> Response:
        connection = self._connections.get(url.origin) or self._connect(url.origin, credentials=credentials)
        host = str(url.origin)
        proxy = self._proxies.to(url.origin) if url.origin.scheme == "http" else None
        target = f"http://{url.origin}{url.target}" if proxy else url.target
        sent = {"Host": host, **headers, **(proxy.headers if proxy else {})}
        try:
            return Response(Exchange(connection, method, target, sent, body), connection, host)
        except _DISCONNECTED:
            raise
        except (OSError, h11.ProtocolError, ValueError) as error:
            self._drop(url.origin)
            raise self._failed(host, error) from cause_of(error)

    def _connect(self, origin: Origin, *, credentials: bool) -> HttpConnection:
        timeout = min(_CONNECT_TIMEOUT, self.timeout)
        proxy = self._proxies.to(origin)
        if proxy is None:
            sock = self._sockets.direct(origin, timeout, credentials=credentials)
        else:
            sock = self._sockets.to_proxy(proxy, origin, timeout, credentials=credentials)
        connection = HttpConnection(sock)
        with self._lock:
            self._connections[origin] = connection
        self._check(origin)
        try:
            if origin.scheme == "https":
                if proxy is not None:
                    connection.tunnel(origin.authority, proxy.headers)
                connection.start_tls(self._context(origin), origin.host)
        except TunnelRefused:
            self._drop(origin)
            raise Unavailable(f"registry {origin}: the proxy {proxy} does not lead there") from None
        except (OSError, h11.ProtocolError, ValueError) as error:
            self._drop(origin)
            raise self._no_tls(origin, error) from error if isinstance(error, ssl.SSLError) else cause_of(error)
        connection.sock.settimeout(self.timeout)
        self._check(origin)
        return connection

    def _context(self, origin: Origin) -> ssl.SSLContext:
        is_own = self._sockets.home is not None and origin.host == self._sockets.home.host
        return self._tls(not (self._insecure and is_own))

    def _no_tls(self, origin: Origin, error: Exception) -> Exception:
        """Return the error for a connection on which TLS could not be started."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unavailable(
                f"registry {origin}: its certificate is not trusted: {error.verify_message}",
                hint="put its CA into the certs_dir of the configuration",
            )
        if isinstance(error, ssl.SSLError):
            return Unavailable(f"registry {origin}: {tls_reason(error)}")
        if isinstance(error, ConnectionError):
            return Unavailable(f"registry {origin}: TLS failed: the connection was closed")
        return self._failed(str(origin), error)

    def _check(self, origin: Origin) -> None:
        """Raise Cancelled once the job was aborted: there may have been a moment without a socket to shut down."""
        if self._aborted:
            self._drop(origin)
            raise Cancelled(f"registry {origin}: given up")

    def _drop(self, origin: Origin) -> None:
        with self._lock:
            connection = self._connections.pop(origin, None)
        if connection is not None:
            connection.close()

    def _failed(self, host: str, error: Exception) -> Exception:
        if self._aborted:
            return Cancelled(f"registry {host}: given up")
        return Unavailable(f"registry {host}: {reason_of(error)}")


def _not_encoded(response: Response) -> Response:
    """Return the response. Unavailable if its body is encoded, although no encoding was requested."""
    encoding = response.header("Content-Encoding").strip().lower()
    if encoding in ("", "identity"):
        return response
    response.close()
    raise Unavailable(f"registry {response.host}: its answer is encoded ({encoding[:40]!a}) without a request")
