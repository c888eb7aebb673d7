"""What the front does once the clients of sessions have come: who is asked for what, and what is refused."""

from __future__ import annotations

import asyncio

import pytest

from kernel.contracts import network, runtime
from kernel.contracts.stream import Dial, Ended, ExpectRequest, Kind, Opened, RefuseRequest, Waiting
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import FailedPrecondition, Unavailable
from kernel.front.context import Front
from kernel.front.sessions import clients, urls
from kernel.ids import new_session
from tests.harness.fakes import pod_workers as fakes


@pytest.fixture
async def container(front: Front, pod: str) -> str:
    made = await fakes.create(front, pod)
    await fakes.start(front, made)
    return made


async def hear(front: Front, host: fakes.Host, *events: object, count: int = 1) -> list[object]:
    """What is asked of workers once the stream process has said so."""
    host.told.clear()
    host.events["watch"] = list(events)  # type: ignore[arg-type]
    watching = front.tasks.spawn(clients.watch_stream(front), "watch stream")
    async with asyncio.timeout(10):
        while len(host.told) < count:
            await asyncio.sleep(0)
    watching.cancel()
    return list(host.told)


async def test_an_exec_from_its_url_to_its_end(front: Front, host: fakes.Host, container: str) -> None:
    request = cri.ExecRequest(container_id=container[:13], cmd=["ls", "-l"], stdin=True, stdout=True, tty=True)
    url = (await urls.exec_stream(front, request, fakes.a_call("Exec"))).url
    (expected,) = host.told
    assert isinstance(expected, ExpectRequest)
    assert url == f"http://127.0.0.1:7/exec/{expected.session}"
    assert (expected.kind, expected.target, expected.tty, expected.stdin) == (Kind.EXEC, container, True, True)
    opened = Opened(session=expected.session, kind=Kind.EXEC, target=container, width=80, height=24)
    told = await hear(front, host, opened, Ended(session=expected.session, kind=Kind.EXEC), count=2)
    assert told == [
        runtime.OpenExecRequest(
            session=expected.session, container_id=container, cmd=("ls", "-l"), tty=True, stdin=True, stdout=True,
            stderr=False, width=80, height=24,
        ),
        runtime.SessionRequest(session=expected.session),
    ]  # type: ignore[comparison-overlap]  # fmt: skip


async def test_what_the_runtime_says_against_it_is_told(front: Front, host: fakes.Host, container: str) -> None:
    request = cri.AttachRequest(container_id=container, stdout=True)
    await urls.attach(front, request, fakes.a_call("Attach"))
    (expected,) = host.told
    assert isinstance(expected, ExpectRequest)
    host.fail["open_attach"] = [Unavailable("conmon is gone")]
    opened = Opened(session=expected.session, kind=Kind.ATTACH, target=container)
    (told,) = await hear(front, host, opened)
    assert told == RefuseRequest(session=expected.session, message="conmon is gone")


async def test_a_command_that_nobody_here_was_asked_for_is_not_run(
    front: Front, host: fakes.Host, container: str
) -> None:
    opened = Opened(session=new_session(), kind=Kind.EXEC, target=container)
    (told,) = await hear(front, host, Waiting(opened=(opened,)))
    assert isinstance(told, RefuseRequest)
    assert "ask again" in told.message


async def test_a_session_is_of_one_container(front: Front, host: fakes.Host, container: str, pod: str) -> None:
    other = await fakes.create(front, pod, fakes.container_config("other"))
    await fakes.start(front, other)
    await urls.exec_stream(
        front, cri.ExecRequest(container_id=container, cmd=["true"], stdout=True), fakes.a_call("Exec")
    )
    (expected,) = host.told
    assert isinstance(expected, ExpectRequest)
    (told,) = await hear(front, host, Opened(session=expected.session, kind=Kind.EXEC, target=other))
    assert isinstance(told, RefuseRequest)


async def test_connections_are_dialled(front: Front, host: fakes.Host, pod: str) -> None:
    await urls.port_forward(front, cri.PortForwardRequest(pod_sandbox_id=pod), fakes.a_call("PortForward"))
    (expected,) = host.told
    assert isinstance(expected, ExpectRequest)
    dials = [Dial(session=expected.session, connection=number, target=pod, port=80) for number in (1, 2)]
    host.fail["dial"] = [None, FailedPrecondition("connection refused")]
    told = await hear(front, host, *dials, count=2)
    dialled = network.DialRequest(session=expected.session, connection=1, sandbox_id=pod, port=80)  # type: ignore[arg-type]
    refused = RefuseRequest(session=expected.session, connection=2, message="connection refused")
    assert told == [dialled, refused]


async def test_a_stream_process_that_starts_anew_is_told_whom_to_expect(
    front: Front, host: fakes.Host, pod: str
) -> None:
    await urls.port_forward(front, cri.PortForwardRequest(pod_sandbox_id=pod), fakes.a_call("PortForward"))
    before = list(host.told)
    assert await hear(front, host, Waiting()) == before
