"""The HTTP request that begins a session, and the answer to it. Pure.

A session is identified by the last part of its URL's path. Host and Origin are ignored: the kubelet passes on those of
its own clients, and a client without a token is refused whatever they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs

from kernel.contracts.stream import Kind

MOST_HEAD = 16 << 10
"""The longest request, in bytes."""
MOST_PORTS = 64
_PATH = re.compile(r"/(exec|attach|portforward)/([A-Za-z0-9_-]{22})", re.ASCII)
_REQUEST = re.compile(r"(GET|POST) (/[!-~]*) HTTP/1\.1")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_VERSION_HEADER = "x-stream-protocol-version"

COMMANDS = ("v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
FORWARD = "portforward.k8s.io"
TUNNEL = "SPDY/3.1+portforward.k8s.io"
_WEBSOCKET_COMMANDS = (
    "v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io",
)  # fmt: skip
_WEBSOCKET_FORWARDS = (TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io", FORWARD)


class Refused(Exception):
    """An HTTP request is refused with this status code and reason. Raised and caught inside this process alone."""

    def __init__(self, code: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.headers = headers


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeRequest:
    """A request for a session."""

    kind: Kind
    token: str
    websocket: bool
    protocol: str
    """The protocol that was agreed on; empty for a WebSocket client that offers none."""
    ports: tuple[int, ...]
    """The ports in the URL's query, for a port-forward."""

    @property
    def plain(self) -> bool:
        """Whether the protocol is older than version 4: it has no exit codes, and errors are plain text."""
        return not self.protocol.startswith(("v4.", "v5."))

    @property
    def resizes(self) -> bool:
        """Whether a client that speaks SPDY makes a stream for the terminal's size."""
        return self.protocol.startswith(("v3.", "v4.", "v5."))

    @property
    def text(self) -> bool:
        """Whether the channels are in base64."""
        return "base64" in self.protocol


def parse(head: bytes) -> UpgradeRequest:
    """Return the request of a head that ends with an empty line; raises Refused with the answer if it is not
    acceptable."""
    first, *lines = head.decode("latin-1").split("\r\n")
    found = _REQUEST.fullmatch(first)
    if not found:
        raise Refused(400, "the request is not GET or POST of HTTP/1.1")
    path, _, query = found.group(2).partition("?")
    named = _PATH.fullmatch(path)
    if not named:
        raise Refused(404, "no such session: it was never there, was used already, or has expired")
    kind, headers = Kind(named.group(1)), _headers(lines)
    if not _has(headers, "connection", "upgrade"):
        raise Refused(400, "the request does not ask for an upgrade")
    websocket = _has(headers, "upgrade", "websocket")
    if websocket and found.group(1) != "GET":
        raise Refused(405, "a WebSocket is requested by GET", (("Allow", "GET"),))
    if not websocket and not _has(headers, "upgrade", "spdy/3.1"):
        raise Refused(400, "the request asks for neither SPDY/3.1 nor WebSocket")
    return UpgradeRequest(
        kind=kind,
        token=named.group(2),
        websocket=websocket,
        protocol=_websocket_protocol(kind, headers) if websocket else _spdy_protocol(kind, headers),
        ports=_ports(query) if kind is Kind.PORT_FORWARD else (),
    )


def refusal(refused: Refused) -> bytes:
    """Return the answer to a request that is refused."""
    return _response(refused.code, f"{refused.message}\n", refused.headers)


def switching(protocol: str) -> bytes:
    """Return the answer that begins SPDY."""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        f"X-Stream-Protocol-Version: {protocol}\r\n\r\n"
    ).encode()


def _response(code: int, text: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    reason = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}.get(code, "Refused")
    lines = [
        f"HTTP/1.1 {code} {reason}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(text.encode())}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + text).encode()


def _headers(lines: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in lines:
        if not line:
            continue  # the empty line at the end
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name):
            raise Refused(400, "a header of the request is malformed")
        found.setdefault(name.lower(), []).append(value.strip())
    if "transfer-encoding" in found or found.get("content-length", ["0"]) != ["0"]:
        raise Refused(400, "a request for an upgrade has no body")
    return found


def _words(headers: dict[str, list[str]], name: str) -> list[str]:
    return [word.strip() for value in headers.get(name, ()) for word in value.split(",") if word.strip()]


def _has(headers: dict[str, list[str]], name: str, word: str) -> bool:
    return word in (one.lower() for one in _words(headers, name))


def _spdy_protocol(kind: Kind, headers: dict[str, list[str]]) -> str:
    offered = _words(headers, _VERSION_HEADER)
    if not offered:
        raise Refused(400, "the request has no X-Stream-Protocol-Version")
    known = (FORWARD,) if kind is Kind.PORT_FORWARD else COMMANDS
    for one in offered:
        if one in known:
            return one
    accepted = tuple(("X-Accepted-Stream-Protocol-Versions", one) for one in known)
    raise Refused(403, f"none of the protocols {', '.join(offered)[:200]} is served, but {', '.join(known)}", accepted)


def _websocket_protocol(kind: Kind, headers: dict[str, list[str]]) -> str:
    offered = _words(headers, "sec-websocket-protocol")
    known = _WEBSOCKET_FORWARDS if kind is Kind.PORT_FORWARD else _WEBSOCKET_COMMANDS
    for one in offered:
        if one in known:
            return one
    if not offered:
        return ""
    raise Refused(403, f"none of the subprotocols {', '.join(offered)[:200]} is served, but {', '.join(known)}")


def _ports(query: str) -> tuple[int, ...]:
    try:
        given = parse_qs(query, max_num_fields=MOST_PORTS).get("port", [])
    except ValueError as error:
        raise Refused(400, "the request has too many parameters") from error
    return tuple(port(text) for value in given for text in value.split(","))[:MOST_PORTS]


def port(text: str) -> int:
    """Return a port's number; raises Refused if it is none."""
    number = int(text) if _PORT.fullmatch(text) else 0
    if not 1 <= number <= 65535:
        raise Refused(400, f"port {text[:80]!a} is not between 1 and 65535")
    return number
