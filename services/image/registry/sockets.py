"""TCP connections to a registry and to the hosts that it names, directly or to a proxy. Runs in a job's thread.

An address is checked when it is connected to, not when its name is looked up: the name may have another address a
moment later. No host may be nearer to this machine than the registry itself (`address.may_lead_to`).
"""

from __future__ import annotations

import socket

from kernel.errors import Unavailable
from services.image.registry import address
from services.image.registry.address import Distance, Origin
from services.image.registry.failures import Transient, reason_of
from services.image.registry.proxies import Proxy


class Sockets:
    """Opens the connections of one job."""

    def __init__(self) -> None:
        self.home: Origin | None = None
        """The registry itself."""
        self._distance = Distance.PUBLIC

    def direct(self, origin: Origin, timeout: float, *, credentials: bool) -> socket.socket:
        """Return a connection to the first address of the host that is allowed and answers."""
        try:
            found = socket.getaddrinfo(origin.host.rstrip("."), origin.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Unavailable(f"registry {origin}: its name cannot be resolved: {reason_of(error)}") from Transient()
        last: OSError | None = None
        for family, kind, protocol, _, place in found:
            distance = address.distance(str(place[0]))
            if origin != self.home and not address.may_lead_to(self._distance, distance, credentials=credentials):
                raise Unavailable(
                    f"registry {self.home}: it names the host {origin}, which is {distance.name.lower()} to this "
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
            if origin == self.home:
                self._distance = distance
            return sock
        raise Unavailable(f"registry {origin}: cannot be reached: {reason_of(last)}") from Transient()

    def to_proxy(self, proxy: Proxy, origin: Origin, timeout: float, *, credentials: bool) -> socket.socket:
        """Return a connection to the proxy for `origin`. The proxy resolves names, so only literal addresses are
        checked."""
        try:
            distance = address.distance(origin.host)
        except ValueError:
            distance = Distance.PUBLIC
        if origin == self.home:
            self._distance = distance
        elif not address.may_lead_to(self._distance, distance, credentials=credentials):
            raise Unavailable(
                f"registry {self.home}: it names the host {origin}, which is {distance.name.lower()}: not followed"
            )
        try:
            sock = socket.create_connection((proxy.host, proxy.port), timeout)
        except (OSError, UnicodeError) as error:
            raise Unavailable(
                f"registry {origin}: proxy {proxy}: cannot be reached: {reason_of(error)}"
            ) from Transient()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


def shut_down(sock: socket.socket) -> None:
    """Make whatever another thread waits for on the socket fail at once."""
    # not SSLSocket's own shutdown, which would drop the TLS state that the other thread reads with
    socket.socket.shutdown(sock, socket.SHUT_RDWR)
