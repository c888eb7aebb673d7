"""Requests that begin sessions, and those that do not."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.contracts.stream import Kind
from kernel.stream.client import upgrade
from kernel.stream.client.upgrade import Refused, UpgradeRequest

TOKEN = "A" * 22
SPDY = ("Connection: Upgrade", "Upgrade: SPDY/3.1")
WEBSOCKET = ("Connection: keep-alive, Upgrade", "Upgrade: websocket")


def parse(
    *headers: str, method: str = "GET", path: str = f"/exec/{TOKEN}", version: str = "HTTP/1.1"
) -> UpgradeRequest:
    return upgrade.parse("\r\n".join([f"{method} {path} {version}", "Host: x", *headers, "", ""]).encode())


def refused(*headers: str, **more: str) -> Refused:
    with pytest.raises(Refused) as caught:
        parse(*headers, **more)
    return caught.value


@pytest.mark.parametrize("protocol", upgrade.COMMANDS)
def test_every_version_of_the_command_protocol(protocol: str) -> None:
    found = parse(*SPDY, f"X-Stream-Protocol-Version: {protocol}", method="POST")
    assert (found.kind, found.token, found.websocket, found.protocol) == (Kind.EXEC, TOKEN, False, protocol)
    assert found.plain == (protocol[:3] not in ("v4.", "v5."))
    assert found.resizes == (protocol[:3] in ("v3.", "v4.", "v5."))


def test_the_first_that_is_known_of_those_that_the_client_offers() -> None:
    several = (
        "X-Stream-Protocol-Version: v9.channel.k8s.io",
        "x-stream-protocol-version: v3.channel.k8s.io, v4.channel.k8s.io",
    )
    assert parse(*SPDY, *several).protocol == "v3.channel.k8s.io"
    assert b"X-Stream-Protocol-Version: v3.channel.k8s.io\r\n" in upgrade.switching("v3.channel.k8s.io")


def test_port_forward_has_a_protocol_of_its_own() -> None:
    path = f"/portforward/{TOKEN}?port=80&port=81,82"
    found = parse(*SPDY, "X-Stream-Protocol-Version: portforward.k8s.io", path=path)
    assert (found.kind, found.ports) == (Kind.PORT_FORWARD, (80, 81, 82))
    assert refused(*SPDY, "X-Stream-Protocol-Version: v4.channel.k8s.io", path=path).code == 403


@pytest.mark.parametrize(
    ("offered", "protocol"),
    [
        ("v5.channel.k8s.io, v4.channel.k8s.io", "v5.channel.k8s.io"),
        ("base64.channel.k8s.io", "base64.channel.k8s.io"),
        ("x, v4.base64.channel.k8s.io", "v4.base64.channel.k8s.io"),
    ],
)
def test_subprotocols(offered: str, protocol: str) -> None:
    found = parse(*WEBSOCKET, f"Sec-WebSocket-Protocol: {offered}")
    assert (found.websocket, found.protocol, found.text) == (True, protocol, "base64" in protocol)


def test_a_websocket_without_a_subprotocol_is_of_the_first_version() -> None:
    assert parse(*WEBSOCKET).protocol == ""
    assert parse(*WEBSOCKET).plain


def test_a_tunnel() -> None:
    found = parse(*WEBSOCKET, f"Sec-WebSocket-Protocol: {upgrade.TUNNEL}", path=f"/portforward/{TOKEN}")
    assert found.protocol == upgrade.TUNNEL


@pytest.mark.parametrize(
    ("headers", "more", "code"),
    [
        (SPDY, {}, 400),  # no version
        ((*SPDY, "X-Stream-Protocol-Version: v9.channel.k8s.io"), {}, 403),
        ((*WEBSOCKET, "Sec-WebSocket-Protocol: chat"), {}, 403),
        ((*WEBSOCKET, "Sec-WebSocket-Protocol: v4.channel.k8s.io"), {"method": "POST"}, 405),
        (("Connection: close", "Upgrade: SPDY/3.1"), {}, 400),
        (("Connection: Upgrade", "Upgrade: h2c"), {}, 400),
        ((), {}, 400),
        (SPDY, {"path": "/"}, 404),
        (SPDY, {"path": "/exec/short"}, 404),
        (SPDY, {"path": f"/exec/{TOKEN}/x"}, 404),
        (SPDY, {"path": f"/exec/{TOKEN[:-1]}!"}, 404),
        (SPDY, {"path": f"/run/{TOKEN}"}, 404),
        (SPDY, {"version": "HTTP/1.0"}, 400),
        (SPDY, {"method": "DELETE"}, 400),
        ((*SPDY, "no colon"), {}, 400),
        ((*SPDY, "na me: x"), {}, 400),
        ((*SPDY, " folded: x"), {}, 400),
        ((*SPDY, "Content-Length: 5"), {}, 400),
        ((*SPDY, "Transfer-Encoding: chunked"), {}, 400),
    ],
)
def test_what_is_refused(headers: tuple[str, ...], more: dict[str, str], code: int) -> None:
    found = refused(*headers, **more)
    assert found.code == code
    said = upgrade.refusal(found)
    assert said.startswith(f"HTTP/1.1 {code} ".encode())
    assert said.endswith(f"\r\n\r\n{found.message}\n".encode())


def test_a_refused_client_hears_what_is_served() -> None:
    found = refused(*SPDY, "X-Stream-Protocol-Version: v9.channel.k8s.io")
    assert b"X-Accepted-Stream-Protocol-Versions: v4.channel.k8s.io\r\n" in upgrade.refusal(found)


@pytest.mark.parametrize("text", ["0", "65536", "-1", "", "1e3", "٣", " 1", "123456", "99999999999999999999"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(Refused, match="not between 1 and 65535"):
        upgrade.port(text)


def test_too_many_parameters() -> None:
    query = "&".join(f"port={number}" for number in range(1, 100))
    path = f"/portforward/{TOKEN}?{query}"
    assert refused(*SPDY, "X-Stream-Protocol-Version: portforward.k8s.io", path=path).code == 400


@given(st.binary(max_size=400))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    for head in (data, b"GET /exec/" + TOKEN.encode() + b" HTTP/1.1\r\n" + data):
        with suppress(Refused):
            assert upgrade.parse(head).token == TOKEN
