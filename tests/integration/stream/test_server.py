"""Clients without a session, clients of others' sessions, and clients that only waste time: each ends alone."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from kernel.contracts.stream import Ended, Kind, Opened
from kernel.host.aio import FAILURES
from kernel.ids import new_session
from kernel.stream import server
from kernel.stream.sessions.client_session import ClientSession
from tests.harness.streams import Command, Refused, Spdy, answer, ask, connect

SPDY = ("Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v4.channel.k8s.io")


def status(url: str, *headers: str, **options: str) -> int:
    with connect(url) as end:
        end.sendall(ask(url, *headers, **options))
        found = answer(end)[0]
        while end.recv(65536):
            pass
        return found


async def refused(url: str) -> int:
    with pytest.raises(Refused) as caught:
        (await asyncio.to_thread(Spdy, url)).close()
    return int(caught.value.args[0])


async def serves(stream) -> None:
    """It still does its work."""
    client = asyncio.create_task(asyncio.to_thread(Command, await stream.url()))
    started = await stream.run("true", stdin=False)
    with await client as command:
        assert await asyncio.to_thread(command.exit_code) == 0
    started.wait()


class TestTokens:
    async def test_a_guess(self, stream) -> None:
        url = await stream.url()
        assert await refused(url[:-22] + new_session()) == 404
        assert await refused(url[:-1]) == 404

    async def test_used_before(self, stream) -> None:
        url = await stream.url()
        (await asyncio.to_thread(Spdy, url)).close()
        assert await refused(url) == 404

    async def test_expired(self, stream) -> None:
        assert await refused(await stream.url(seconds=-0.001)) == 404

    async def test_of_another_kind(self, stream) -> None:
        url = await stream.url()
        for kind in ("attach", "portforward"):
            other = url.replace("/exec/", f"/{kind}/")
            protocol = "portforward.k8s.io" if kind == "portforward" else "v4.channel.k8s.io"
            with pytest.raises(Refused) as caught:
                await asyncio.to_thread(Spdy, other, protocol)
            assert caught.value.args[0] == 404
        (await asyncio.to_thread(Spdy, url)).close()

    async def test_raced(self, stream) -> None:
        url = await stream.url()
        attempts = [asyncio.to_thread(Spdy, url) for _ in range(20)]
        found = await asyncio.gather(*attempts, return_exceptions=True)
        won = [one for one in found if isinstance(one, Spdy)]
        assert len(won) == 1
        assert all(one.args[0] == 404 for one in found if isinstance(one, Refused))
        won[0].close()

    async def test_what_is_refused_for_its_form_uses_no_token(self, stream) -> None:
        url = await stream.url()
        assert await asyncio.to_thread(status, url, *SPDY[:2]) == 400
        assert await asyncio.to_thread(status, url, *SPDY[:2], "X-Stream-Protocol-Version: v9") == 403
        assert await asyncio.to_thread(status, url) == 400
        (await asyncio.to_thread(Spdy, url)).close()

    async def test_more_than_a_hundred_bits(self, stream) -> None:
        tokens = {(await stream.url()).rpartition("/")[2] for _ in range(200)}
        assert len(tokens) == 200
        assert {len(token) for token in tokens} == {22}  # of six bits each


@pytest.mark.parametrize("header", ["Host: evil.example", "Origin: http://evil.example", "Origin: null"])
async def test_whatever_a_browser_says_it_needs_a_token(stream, header: str) -> None:
    url = await stream.url()
    assert await asyncio.to_thread(status, url[:-22] + new_session(), *SPDY, header) == 404
    assert await asyncio.to_thread(status, url[: url.rindex("/exec")] + "/", *SPDY, header) == 404


async def test_it_listens_on_loopback_alone_and_at_no_abstract_name(stream) -> None:
    assert stream.service._server.base_url.startswith("http://127.0.0.1:")
    names = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()[1:] if "@" in line]
    assert not [name for name in names if str(stream.folder) in name]
    assert (stream.folder / "stream/fds.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x16\x03\x01" * 100 + b"\r\n\r\n", 400),  # TLS
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10000, 431),
        (b"G" * 100_000, 431),
        (b"GET /exec/" + b"A" * 22 + b" HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 404),
    ],
    ids=["tls", "http/2", "headers", "line", "nobody"],
)
async def test_requests_of_another_kind(stream, data: bytes, code: int) -> None:
    def client() -> int:
        with connect(stream.service._server.base_url) as end:
            end.sendall(data)
            return answer(end)[0]

    assert await asyncio.to_thread(client) == code
    await serves(stream)


async def test_what_fails_while_a_session_begins_ends_it_and_is_reported(stream, monkeypatch) -> None:
    sessions = []

    def fail(_client: object, _head: object, _request: object, session: ClientSession) -> None:
        sessions.append(session)
        raise PermissionError(errno.EACCES, "denied")  # asyncio itself drops an OSError without a word

    monkeypatch.setattr(server, "_join_websocket", fail)
    url, before = await stream.url(), FAILURES.bugs
    headers = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Protocol: v4.channel.k8s.io")

    def client() -> bytes:
        with connect(url) as end:
            end.sendall(ask(url, *headers, method="GET"))
            try:
                return end.recv(100)
            except ConnectionResetError:
                return b""

    assert await asyncio.to_thread(client) == b""
    assert FAILURES.bugs == before + 1
    assert [session.over for session in sessions] == [True]
    await serves(stream)


async def test_clients_that_say_nothing_go_after_a_while(stream, monkeypatch) -> None:
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 0.3)

    def client() -> bytes:
        with connect(stream.service._server.base_url) as end:
            end.sendall(b"GET /exec/")
            try:
                return end.recv(100)
            except ConnectionResetError:
                return b""

    assert await asyncio.to_thread(client) == b""


async def test_of_too_many_strangers_the_oldest_make_room(stream, monkeypatch) -> None:
    monkeypatch.setattr(server, "MOST_PENDING", 20)

    def many() -> list[socket.socket]:
        return [connect(stream.service._server.base_url) for _ in range(100)]

    ends = await asyncio.to_thread(many)
    await serves(stream)
    assert len(stream.service._server._pending) <= 20
    for end in ends[:60]:
        end.settimeout(20)
        with suppress(ConnectionResetError):
            assert await asyncio.to_thread(end.recv, 1) == b""
    for end in ends:
        end.close()
    async with asyncio.timeout(20):
        while stream.service._server._clients:
            await asyncio.sleep(0.01)
    assert not stream.service._server._pending
    assert not stream.service._server._timers


async def test_its_port_stays_over_a_restart(make) -> None:
    first = make()
    url = first.service._server.base_url
    await first.close()
    second = type(first)(first.folder)
    assert second.service._server.base_url == url
    await serves(second)
    await second.close()


async def test_a_port_that_somebody_else_has_is_given_up(make) -> None:
    first = make()
    port = int(first.service._server.base_url.rpartition(":")[2])
    await first.close()
    with socket.create_server(("127.0.0.1", port)):
        second = type(first)(first.folder)
        assert not second.service._server.base_url.endswith(f":{port}")
        await second.close()


async def test_a_broken_frame_ends_its_own_connection(stream) -> None:
    good = await asyncio.to_thread(Command, await stream.url(stdin=True), stdin=True)
    second = await stream.run("cat")
    bad = await asyncio.to_thread(Command, await stream.url())
    opened = await stream.heard(Opened)
    bad.socket.sendall(b"\x80\x03\x00\x04\x00\x00\x00\x04\xff\xff\xff\xff")  # SETTINGS with 2^32 - 1 entries
    await asyncio.to_thread(bad.drain)
    assert bad.gone
    bad.close()
    assert (await stream.heard(Ended)).session == opened.session
    with good:
        good.write(b"hi", fin=True)
        assert await asyncio.to_thread(good.exit_code) == 0
    second.wait()


async def test_the_service_tells_where_to_come(stream) -> None:
    url = await stream.url(Kind.ATTACH)
    assert url.startswith(f"{stream.service._server.base_url}/attach/")


async def test_an_address_that_cannot_be_had_is_named(make) -> None:
    with pytest.raises(Exception, match=r"192.0.2.1 port 0.*stream.address"):
        make(address="192.0.2.1")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_an_address_and_a_port_of_the_configuration(make, address: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as free:
        free.bind((address, 0))
        port = free.getsockname()[1]
    place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    for _ in range(2):  # at once again, with connections of the first one still in the kernel's memory
        stream = make(address=address, port=port)
        assert stream.service._server.base_url == f"http://{place}"
        await serves(stream)
        await stream.close()
