"""URLs and origins, and the hosts to which a registry may lead crisp by redirects and token servers. Pure.

A registry names further hosts in redirects and in its challenge for credentials. The rules:

- http(s) only, and no user information in the URL;
- never from https to http;
- no host nearer to this machine than the registry itself: a public registry cannot lead to a service on loopback or on
  the link;
- credentials to a token server only over the scheme by which the registry itself is reached, and only within the
  registry's own domain.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from dataclasses import dataclass
from enum import IntEnum

_URL_LIMIT = 16384
_VISIBLE = re.compile(r"[!-~]+", re.ASCII)
_HOST = re.compile(r"(?=.{1,253}$)[a-zA-Z0-9_](?:[a-zA-Z0-9_-]{0,62})(?:\.[a-zA-Z0-9_-]{1,63})*\.?", re.ASCII)
_PORTS = {"http": 80, "https": 443}
_SHARED = frozenset({
    "amazonaws.com", "azurecr.io", "azurewebsites.net", "azurefd.net", "cloudfront.net", "github.io", "gitlab.io",
    "googleapis.com", "herokuapp.com", "pkg.dev", "run.app", "appspot.com", "web.app", "workers.dev", "pages.dev",
    "fly.dev", "vercel.app", "netlify.app", "onrender.com", "ngrok.io", "cloudapp.net", "windows.net",
})  # fmt: skip
"""Domains below which each name has another owner."""


class BadAddress(ValueError):
    """A URL that must not be followed. The text is the reason and contains nothing secret."""


class Distance(IntEnum):
    """The kind of an address by its distance from this machine, ordered from far to near."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2
    LINK = 3
    """Link-local, multicast and unspecified addresses: metadata services have such, registries never."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port, to which credentials and connections belong (RFC 6454)."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The host and always the port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return self.authority.removesuffix(f":{_PORTS[self.scheme]}")


@dataclass(frozen=True, slots=True)
class Url:
    """A URL in the parts that a request needs."""

    origin: Origin
    target: str
    """Path and query."""


def origin(scheme: str, registry: str) -> Origin:
    """Return the origin of a registry, `host[:port]`, which has been checked."""
    return parse(f"{scheme}://{registry}/").origin


def parse(text: str, base: Url | None = None) -> Url:
    """Return a URL, which may be relative to `base`. BadAddress if it is malformed or no http(s) URL."""
    if len(text) > _URL_LIMIT or not _VISIBLE.fullmatch(text):
        raise BadAddress("the URL is too long or has characters that no URL has")
    try:
        if base is not None:
            text = urllib.parse.urljoin(f"{base.origin.scheme}://{base.origin}{base.target}", text)
        parts = urllib.parse.urlsplit(text)
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        raise BadAddress("the URL is malformed") from error
    if parts.scheme not in _PORTS:
        raise BadAddress(f"the scheme {parts.scheme[:20]!a} is neither http nor https")
    if "@" in parts.netloc:
        raise BadAddress("the URL carries user information")
    if not _HOST.fullmatch(host) and _address(host) is None:
        raise BadAddress(f"{host[:100]!a} is no host")
    if port == 0:
        raise BadAddress("port 0 is no port")
    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    return Url(Origin(parts.scheme, host.lower(), port or _PORTS[parts.scheme]), target)


def redirect(current: Url, location: str) -> Url:
    """Return the URL that a redirect leads to. BadAddress if it must not be followed."""
    target = parse(location, current)
    if current.origin.scheme == "https" and target.origin.scheme != "https":
        raise BadAddress(f"a redirect from https to http (host {target.origin})")
    return target


def distance(address: str) -> Distance:
    """Return how near an IP address is. An IPv4-mapped IPv6 address counts as the IPv4 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return Distance.LINK
    if ip.is_loopback:
        return Distance.LOOPBACK
    return Distance.PUBLIC if ip.is_global else Distance.PRIVATE


def may_lead_to(registry: Distance, other: Distance, *, credentials: bool) -> bool:
    """Return whether a registry at one distance may lead to a host at another.

    Public registries do redirect to stores on a private network (a cloud's endpoint inside the cluster's own). A token
    server there would be sent credentials, so it must not be.
    """
    return other <= max(registry, Distance.PUBLIC if credentials else Distance.PRIVATE)


def is_loopback(registry: str) -> bool:
    """Return whether a registry, `host[:port]`, is on this machine by its name."""
    return _loopback(parse(f"http://{registry}/").origin.host)


def token_server(registry: Origin, realm: str, *, verified: bool) -> Url:
    """Return the URL of a token server that a registry names. BadAddress if it must not be used.

    `verified`: whether the registry is reached over https with a verified certificate.
    """
    url = parse(realm)
    if url.origin.scheme != "https" and (verified or registry.scheme == "https"):
        raise BadAddress(f"the token server {url.origin} is not https")
    return url


def same_owner(one: str, other: str) -> bool:
    """Return whether two hosts have one owner by their names: equal, both this machine, or one registrable domain."""
    if one == other or (_loopback(one) and _loopback(other)):
        return True
    if _address(one) is not None or _address(other) is not None:
        return False
    owner = _registrable(one)
    return owner is not None and owner == _registrable(other)


def _registrable(host: str) -> str | None:
    labels = host.rstrip(".").split(".")
    if len(labels) < 2:
        return None
    count = 2
    if len(labels[-1]) == 2 and len(labels[-2]) <= 3:
        count = 3  # co.uk, com.au, ...
    if ".".join(labels[-2:]) in _SHARED:
        return None
    return ".".join(labels[-count:]) if len(labels) >= count else None


def _loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
