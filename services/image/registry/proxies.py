"""Chooses the proxy that leads to a host. Pure.

The rules are those of the variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY, but the values come from the configuration,
because workers have no environment. This machine's own registries are always reached directly. The connection to a
proxy is http; https goes through it by CONNECT, so that the proxy sees only the host's name.
"""

from __future__ import annotations

import base64
import ipaddress
import urllib.parse
from dataclasses import dataclass

from kernel.errors import InvalidInput
from services.image.registry import address
from services.image.registry.address import Origin


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's address, and its credentials."""

    host: str
    port: int
    authorization: str = ""

    def __repr__(self) -> str:
        return f"Proxy({self})"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """The headers that are for the proxy alone."""
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies by scheme, and the hosts that are reached without one."""

    http: Proxy | None = None
    https: Proxy | None = None
    direct: tuple[str, ...] = ()

    def to(self, origin: Origin) -> Proxy | None:
        """Return the proxy that leads to an origin; None if it is reached directly."""
        proxy = self.https if origin.scheme == "https" else self.http
        if proxy is None or address.is_loopback(str(origin)) or any(_covers(entry, origin) for entry in self.direct):
            return None
        return proxy


def parse(http: str, https: str, direct: str) -> Proxies:
    """Return the configuration's proxies. InvalidInput names the key, and never contains a password."""
    entries = tuple(entry.strip().lower() for entry in direct.replace(" ", ",").split(",") if entry.strip())
    return Proxies(_proxy(http, "image.http_proxy"), _proxy(https, "image.https_proxy"), entries)


def _proxy(text: str, key: str) -> Proxy | None:
    if not text:
        return None
    try:
        parts = urllib.parse.urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname or "", parts.port or 80
    except ValueError as error:
        raise InvalidInput(f"{key} is not the URL of a proxy") from error
    if parts.scheme != "http" or not host or parts.path.strip("/") or parts.query:
        raise InvalidInput(f"{key} is not http://[user:password@]host:port", hint="other kinds are not supported")
    user, password = urllib.parse.unquote(parts.username or ""), urllib.parse.unquote(parts.password or "")
    secret = base64.b64encode(f"{user}:{password}".encode()).decode()
    return Proxy(host, port, f"Basic {secret}" if user or password else "")


def _covers(entry: str, origin: Origin) -> bool:
    """Return whether an entry of NO_PROXY covers an origin.

    It is `*`, an address, a network, or a domain with all names below it (only these if it begins with a dot); each
    with a port or without.
    """
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(origin.host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass  # one of the two is a name
    host, colon, port = entry.rpartition(":") if entry.count(":") == 1 or "]:" in entry else (entry, "", "")
    if colon and port != str(origin.port):
        return False
    domain = host.strip("[]").removeprefix("*")
    below = domain if domain.startswith(".") else f".{domain}"
    return origin.host == domain or origin.host.endswith(below)
