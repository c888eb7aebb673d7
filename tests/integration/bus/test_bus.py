"""A real caller and a real worker's server over a real ZeroMQ socket, with a worker that dies on demand."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgpack
import pytest
import zmq
import zmq.asyncio

from kernel.bus.client import Client
from kernel.bus.envelope import MARK
from kernel.bus.worker import Call, Server
from kernel.contracts.definition import HELLO, Contract, Message, Method, Nothing
from kernel.errors import DeadlineExceeded, Internal, NotFound, Unavailable
from kernel.host.aio import Deadline, Tasks, report_lost_errors

ID = bytes(range(16))


def header(**fields: object) -> bytes:
    """A request's header by plain msgpack, with some of its fields replaced."""
    request = {"type": "request", "id": ID, "method": "say", "deadline_ns": 0, "trace": "-"}
    packed: bytes = msgpack.packb(request | fields)
    return packed


class Say(Message, frozen=True, kw_only=True):
    word: str


SAY = Method("say", Say, Say, deadline=5)
ONCE = Method("once", Say, Say, deadline=5, repeat=False)
STEPS = Method("steps", Say, Say, deadline=5, progress=Say)
WATCH = Method("watch", Nothing, Nothing, deadline=0, progress=Say, watch=True)
CONTRACT = Contract("parrot", SAY, ONCE, STEPS, WATCH)


class Parrot:
    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.said: list[str] = []

    async def say(self, request: Say, call: Call) -> Say:
        self.said.append(request.word)
        if request.word == "nothing":
            raise NotFound("nothing to say", hint="say something")
        if request.word == "bug":
            raise KeyError("bug")
        if request.word == "wait":
            await self.release.wait()
        return Say(word=f"{request.word} {call.trace}")

    async def once(self, request: Say, call: Call) -> Say:
        await self.release.wait()
        return request

    async def steps(self, request: Say, call: Call) -> Say:
        for letter in request.word:
            await call.progress(Say(word=letter))
        return request

    async def watch(self, request: Nothing, call: Call) -> Nothing:
        await call.progress(Say(word="whole"))
        await self.release.wait()
        await call.progress(Say(word="changed"))
        await asyncio.Event().wait()
        return request

    async def close(self) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/calls"


async def test_a_reply_an_error_and_progress(address: str) -> None:
    server, client = Server(CONTRACT, Parrot(), address), Client(CONTRACT, address)
    assert (await client.call(SAY, Say(word="hello"))).word == "hello -"
    with pytest.raises(NotFound, match="nothing to say; say something"):
        await client.call(SAY, Say(word="nothing"))
    steps: list[Message] = []
    await client.call(STEPS, Say(word="abc"), on_progress=steps.append)
    assert steps == [Say(word="a"), Say(word="b"), Say(word="c")]
    assert (await client.call(HELLO, Nothing())).pid == os.getpid()
    await client.close()
    await server.close()


async def test_any_languages_msgpack_calls_and_reads_a_worker(address: str) -> None:
    server = Server(CONTRACT, Parrot(), address)
    with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as plain:
        plain.connect(address)
        await plain.send_multipart([b"crisp/2", header(method="hello"), msgpack.packb({})])
        mark, answer, body = await asyncio.wait_for(plain.recv_multipart(), 5)
        assert mark == b"crisp/2"
        assert msgpack.unpackb(answer) == {"type": "answer", "id": ID}
        assert msgpack.unpackb(body)["pid"] == os.getpid()
        await plain.send_multipart([b"crisp/2", header(method="none"), msgpack.packb({})])
        _, failed, body = await asyncio.wait_for(plain.recv_multipart(), 5)
        assert msgpack.unpackb(failed) == {"type": "failed", "id": ID}
        assert msgpack.unpackb(body)["kind"] == "NotFound"
    await server.close()


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [MARK, msgpack.packb({"type": "answer", "id": ID})],
        [MARK, header(), b"\x80"],
        [MARK, msgpack.packb({"type": "answer", "id": ID}), *[b""] * 1000],
        [MARK, b"\xdf\xff\xff\xff\xff", b""],
    ],
    ids=range(5),
)
async def test_a_hostile_worker_is_refused_and_harmless(
    address: str, frames: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as hostile:
        hostile.bind(address)
        client = Client(CONTRACT, address)
        asking = asyncio.get_running_loop().create_task(client.call(SAY, Say(word="hello")))
        sender, mark, request, body = await asyncio.wait_for(hostile.recv_multipart(), 5)
        await hostile.send_multipart([sender, *frames])
        answer = msgpack.packb({"type": "answer", "id": msgpack.unpackb(request)["id"]})
        await hostile.send_multipart([sender, mark, answer, body])
        assert (await asking).word == "hello"
        assert "a message of the parrot worker is refused" in caplog.text
        await client.close()


@pytest.mark.parametrize("kind", ["answer", "failed"])
async def test_an_answer_whose_body_does_not_fit_ends_its_call_at_once(
    address: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as hostile:
        hostile.bind(address)
        client = Client(CONTRACT, address)
        asking = asyncio.get_running_loop().create_task(client.call(SAY, Say(word="hello")))
        sender, mark, request, _ = await asyncio.wait_for(hostile.recv_multipart(), 5)
        answer = msgpack.packb({"type": kind, "id": msgpack.unpackb(request)["id"]})
        await hostile.send_multipart([sender, mark, answer, msgpack.packb({"word": 3})])
        with pytest.raises(Internal, match="parrot worker, say: its answer is refused"):
            await asyncio.wait_for(asking, 1)  # its own deadline is five seconds
        assert "a message of the parrot worker is refused" in caplog.text
        await client.close()


async def test_a_bug_in_a_handler_is_internal_and_the_worker_lives(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    server, client = Server(CONTRACT, Parrot(), address), Client(CONTRACT, address)
    with pytest.raises(Internal, match="KeyError"):
        await client.call(SAY, Say(word="bug"))
    assert "say failed" in caplog.text
    assert (await client.call(SAY, Say(word="hello"))).word == "hello -"
    await client.close()
    await server.close()


async def test_a_worker_reports_the_failures_of_its_background_tasks(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> None:
        raise KeyError("follower")

    async def away() -> None:
        raise Unavailable("storage is away")

    server, client, tasks = Server(CONTRACT, Parrot(), address), Client(CONTRACT, address), Tasks()
    before = await client.call(HELLO, Nothing())
    tasks.spawn(broken(), "follow")
    tasks.spawn(away(), "measure")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    after = await client.call(HELLO, Nothing())
    assert (after.bugs - before.bugs, after.errors - before.errors) == (1, 1)
    assert "KeyError: 'follower'" in caplog.text
    await client.close()
    await server.close()


async def test_a_bug_at_the_receivers_end_does_not_hold_up_the_messages_behind_it(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    report_lost_errors()

    def broken(_: Message) -> None:
        raise KeyError("progress")

    server, client = Server(CONTRACT, Parrot(), address), Client(CONTRACT, address)
    assert (await client.call(STEPS, Say(word="abc"), on_progress=broken)).word == "abc"
    assert caplog.text.count("KeyError: 'progress'") == 3
    await client.close()
    await server.close()


async def test_a_call_waits_for_a_worker_that_is_not_there_yet(address: str) -> None:
    client = Client(CONTRACT, address)
    asking = asyncio.get_running_loop().create_task(client.call(SAY, Say(word="early")))
    await asyncio.sleep(0)
    server = Server(CONTRACT, Parrot(), address)
    assert (await asking).word == "early -"
    await client.close()
    await server.close()


async def test_a_call_is_asked_again_after_its_worker_went(address: str) -> None:
    first, client = Parrot(), Client(CONTRACT, address)
    server = Server(CONTRACT, first, address)
    asking = asyncio.get_running_loop().create_task(client.call(SAY, Say(word="wait")))
    async with asyncio.timeout(5):
        while not first.said:
            await asyncio.sleep(0.001)
    await server.close()
    second = Parrot()
    second.release.set()
    server = Server(CONTRACT, second, address)
    assert (await asking).word == "wait -"
    assert second.said == ["wait"]
    await client.close()
    await server.close()


async def test_a_call_that_may_not_be_repeated_fails_with_its_worker(address: str) -> None:
    server, client = Server(CONTRACT, Parrot(), address), Client(CONTRACT, address)
    await client.call(SAY, Say(word="hello"))
    asking = asyncio.get_running_loop().create_task(client.call(ONCE, Say(word="x")))
    await client.call(SAY, Say(word="behind it"))
    await server.close()
    with pytest.raises(Unavailable, match="parrot worker ended during once"):
        await asking
    await client.close()


async def test_the_deadline_holds_with_and_without_a_worker(address: str) -> None:
    client = Client(CONTRACT, address)
    with pytest.raises(DeadlineExceeded, match="it is down"):
        await client.call(SAY, Say(word="x"), deadline=Deadline.after(0.05))
    parrot = Parrot()
    server = Server(CONTRACT, parrot, address)
    with pytest.raises(DeadlineExceeded):
        await client.call(SAY, Say(word="wait"), deadline=Deadline.after(0.1))
    await client.close()
    await server.close()


async def test_a_watch_starts_anew_with_a_new_worker(address: str) -> None:
    parrot, client = Parrot(), Client(CONTRACT, address)
    server = Server(CONTRACT, parrot, address)
    events = client.watch(WATCH, Nothing())
    assert await anext(events) == Say(word="whole")
    parrot.release.set()
    assert await anext(events) == Say(word="changed")
    await server.close()
    server = Server(CONTRACT, Parrot(), address)
    assert await anext(events) == Say(word="whole")
    await events.aclose()
    await client.close()
    await server.close()


async def test_a_worker_that_ends_while_its_callers_close_holds_up_no_other(address: str) -> None:
    """ZeroMQ's thread reports the lost connection of a closing socket, and must not wait for a reader of the report."""
    with zmq.Context() as context:
        for _ in range(20):
            deaf = context.socket(zmq.ROUTER)
            deaf.setsockopt(zmq.RCVHWM, 1)
            deaf.bind(address)
            client = Client(CONTRACT, address)
            calls = [asyncio.get_running_loop().create_task(client.call(SAY, Say(word="x" * 1_000_000)))
                     for _ in range(20)]  # fmt: skip
            async with asyncio.timeout(5):
                while not client._calls.up:
                    await asyncio.sleep(0)
            await client.close()  # what it could not send lingers
            deaf.close(linger=0)
            await asyncio.gather(*calls, return_exceptions=True)
    server, client = Server(CONTRACT, Parrot(), address), Client(CONTRACT, address)
    async with asyncio.timeout(5):
        assert (await client.call(HELLO, Nothing())).pid == os.getpid()
    await client.close()
    await server.close()


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"crisp/1" + msgpack.packb({"type": "ask", "id": ID, "method": "say", "deadline_ns": 0, "body": None})],
        [MARK],
        [MARK, header()],
        [MARK, b"", b""],
        [b"crisp/9", header(), b""],
        [MARK, b"\xc1", b""],
        [MARK, b"\x91" * 5000, b""],
        [MARK, b"\x81\xa1x" * 80, b""],
        [MARK, header(id=5), b""],
        [MARK, header(deadline_ns=0.0), b""],
        [MARK, header(trace=msgpack.Timestamp(0)), b""],
        [MARK, header(type="answer"), b""],
        [MARK, header(), b"", b""],
        [MARK, header(), *[b""] * 100_000],
        [b"x"] * 1000,
    ],
    ids=range(16),
)
async def test_a_frame_that_does_not_fit_is_refused_and_harmless(
    address: str, frames: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    server, client = Server(CONTRACT, Parrot(), address), Client(CONTRACT, address)
    with zmq.Context() as context, context.socket(zmq.DEALER) as hostile:
        hostile.setsockopt(zmq.ROUTING_ID, b"\x05\x06")
        hostile.connect(address)
        hostile.send_multipart(frames)
        async with asyncio.timeout(5):
            while "a message from 0506 is refused" not in caplog.text:
                await asyncio.sleep(0.001)
    assert (await client.call(SAY, Say(word="hello"))).word == "hello -"
    await client.close()
    await server.close()


async def test_a_body_that_does_not_fit_is_answered_with_the_field(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong(Message, frozen=True, kw_only=True):
        word: int

    wrong = Method("say", Wrong, Say, deadline=5)
    server, client = Server(CONTRACT, Parrot(), address), Client(Contract("parrot", wrong), address)
    with pytest.raises(Exception, match=r"\$.word"):
        await client.call(wrong, Wrong(word=3))
    assert "is refused" in caplog.text
    await client.close()
    await server.close()


def test_a_service_that_does_not_fit_its_contract_does_not_start() -> None:
    class Mute:
        async def close(self) -> None:
            pass

    from kernel.bus.worker import handlers

    with pytest.raises(Internal, match="lacks"):
        handlers(CONTRACT, Mute())
