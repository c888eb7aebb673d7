"""Which proxy leads to a host. Pure.

As the variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY have it, but from the configuration: workers have no
environment. This machine's own registries are always reached directly. A proxy is spoken to over http; what is
https goes through it by CONNECT, so that it sees the host's name only.
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
    """Where it is, and what it wants to see."""

    host: str
    port: int
    authorization: str = ""

    def __repr__(self) -> str:
        return f"Proxy({self})"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """For the proxy alone."""
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies by scheme, and the hosts that are reached without."""

    http: Proxy | None = None
    https: Proxy | None = None
    direct: tuple[str, ...] = ()

    def to(self, origin: Origin) -> Proxy | None:
        """The proxy that leads there; None where the way is direct."""
        proxy = self.https if origin.scheme == "https" else self.http
        if proxy is None or address.is_loopback(str(origin)) or any(_fits(entry, origin) for entry in self.direct):
            return None
        return proxy


def parse(http: str, https: str, direct: str) -> Proxies:
    """What the configuration says; InvalidInput names the key and repeats no password."""
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


def _fits(entry: str, origin: Origin) -> bool:
    """`*`, an address, a network, or a domain with all below it (only below it with a leading dot); with a port or
    without."""
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(origin.host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass  # not both are numbers
    host, colon, port = entry.rpartition(":") if entry.count(":") == 1 or "]:" in entry else (entry, "", "")
    if colon and port != str(origin.port):
        return False
    domain = host.strip("[]").removeprefix("*")
    below = domain if domain.startswith(".") else f".{domain}"
    return origin.host == domain or origin.host.endswith(below)
