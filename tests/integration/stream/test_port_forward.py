"""Port-forward over SPDY: pairs of streams, each a connection of its own."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from kernel.contracts.stream import Dial, Ended, Kind, RefuseRequest, Role
from kernel.stream.sessions import port_forward
from tests.harness.streams import Forward


@pytest.fixture
async def client(stream):
    made = await asyncio.to_thread(Forward, await stream.url(Kind.PORT_FORWARD))
    yield made
    made.close()


async def dialled(stream) -> tuple[Dial, socket.socket]:
    """The next dial, answered with one end of a connection; the other end is the pod's."""
    dial = await stream.heard(Dial)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    theirs.settimeout(20)
    await stream.give(dial.session, {Role.CONNECTION: ours.detach()}, dial.connection)
    return dial, theirs


async def test_bytes_both_ways_and_half_closed(stream, client) -> None:
    error, data = client.pair(8080)
    dial, pod = await dialled(stream)
    assert (dial.port, dial.target) == (8080, "c" * 64)
    with pod:
        client.send(data, b"GET /", fin=True)
        got = b""
        while piece := await asyncio.to_thread(pod.recv, 100):
            got += piece
        assert got == b"GET /"
        pod.sendall(b"200 OK")
    await asyncio.to_thread(client.drain, error, data)
    assert (client.received[data], client.received[error]) == (b"200 OK", b"")
    assert not client.gone


async def test_what_is_sent_before_the_connection_stands_is_delivered(stream, client) -> None:
    _, data = client.pair(80)
    client.send(data, b"early")
    _, pod = await dialled(stream)
    with pod:
        assert await asyncio.to_thread(pod.recv, 100) == b"early"


async def test_a_port_that_nobody_listens_on(stream, client) -> None:
    error, data = client.pair(81)
    dial = await stream.heard(Dial)
    why = "failed to connect to localhost:81 inside pod x: dial tcp4 127.0.0.1:81: connect: connection refused"
    await stream.service.refuse(RefuseRequest(session=dial.session, connection=dial.connection, message=why), None)
    await asyncio.to_thread(client.drain, error, data)
    assert client.received[error].decode() == f"error forwarding port 81 to pod {'c' * 64}, uid : {why}"
    again, _ = client.pair(80)
    _, pod = await dialled(stream)
    pod.close()
    await asyncio.to_thread(client.drain, again)


async def test_connections_are_apart(stream, client) -> None:
    pairs = [client.pair(1000 + number) for number in range(40)]
    pods = [await dialled(stream) for _ in pairs]
    for number, (dial, pod) in enumerate(pods):
        assert dial.port == 1000 + number
        pod.sendall(b"I am %d" % dial.port)
        pod.close()
    for number, (_, data) in enumerate(pairs):
        await asyncio.to_thread(client.drain, data)
        assert client.received[data] == b"I am %d" % (1000 + number)


async def test_a_connection_that_does_not_read_does_not_stop_the_others(stream, client) -> None:
    _, slow = client.pair(1)
    _, quick = client.pair(2)
    (_, sleeper), (_, pod) = [await dialled(stream) for _ in range(2)]
    sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    # What the kernel takes on the way, and no more than the wire keeps of one channel.
    client.socket.settimeout(20)
    client.send(slow, bytes(200 << 10))
    client.send(quick, b"through")
    with sleeper, pod:
        assert await asyncio.to_thread(pod.recv, 100) == b"through"


async def test_a_reset_ends_the_connection(stream, client) -> None:
    _, data = client.pair(80)
    _, pod = await dialled(stream)
    client.socket.sendall(client.spdy.reset(data, 5))
    with pod:
        assert await asyncio.to_thread(pod.recv, 100) == b""


async def test_clients_without_request_ids(stream, client) -> None:
    error = client.open(streamtype="error", port="80")
    client.open(streamtype="data", port="80")
    dial, pod = await dialled(stream)
    pod.close()
    assert dial.connection == 1
    await asyncio.to_thread(client.drain, error)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "", "http", "99999999999999"])
async def test_what_is_no_port_is_refused(stream, client, port: str) -> None:
    wrong = client.open(streamtype="data", port=port, requestid="1")
    while wrong not in client.resets:
        await asyncio.to_thread(client.pump)
    client.pair(80)
    _, pod = await dialled(stream)
    pod.close()


async def test_what_is_no_pair_is_refused(stream, client, monkeypatch) -> None:
    monkeypatch.setattr(port_forward, "STREAMS_SECONDS", 0.2)
    given = {"port": "80", "requestid": "7"}
    half = client.open(streamtype="data", **given)
    again, strange = client.open(streamtype="data", **given), client.open(streamtype="other", **given)
    while not {again, strange, half} <= client.resets.keys():
        await asyncio.to_thread(client.pump)


async def test_too_many_connections_are_refused(stream, client, monkeypatch) -> None:
    monkeypatch.setattr(port_forward, "MOST_CONNECTIONS", 3)
    for number in range(3):
        client.pair(1 + number)
    wrong = client.open(streamtype="data", port="80", requestid="x")
    while wrong not in client.resets:
        await asyncio.to_thread(client.pump)


async def test_a_client_that_goes_ends_all(stream, client) -> None:
    client.pair(80)
    _, pod = await dialled(stream)
    client.close()
    with pod:
        assert await asyncio.to_thread(pod.recv, 100) == b""
    assert (await stream.heard(Ended)).kind is Kind.PORT_FORWARD


async def test_who_watches_anew_hears_what_is_waited_for(stream, client) -> None:
    client.pair(80)
    dial = await stream.heard(Dial)
    session = stream.service._sessions[dial.session]
    assert session.pending() == (dial,)
    with pytest.raises(Exception, match="not wanted"):
        await stream.give(dial.session, {Role.CONNECTION: os.dup(0)}, dial.connection + 1)
