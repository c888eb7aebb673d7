"""ExecSync, Exec, Attach and PortForward: what is refused, what is handed out, and who is asked for what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from kernel.contracts import network, runtime
from kernel.contracts.stream import Dial, Ended, ExpectRequest, Kind, Opened, RefuseRequest, Waiting
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import FailedPrecondition, InvalidInput, NotFound, Unavailable
from kernel.front.context import Front
from kernel.front.sessions import session_rpcs
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
    watching = front.tasks.start(session_rpcs.watch_stream(front), "watch stream")
    async with asyncio.timeout(10):
        while len(host.told) < count:
            await asyncio.sleep(0)
    watching.cancel()
    return list(host.told)


async def test_exec_is_checked_before_it_is_run(front: Front, pod: str) -> None:
    container = await fakes.create(front, pod)

    async def refused(*cmd: str, timeout: int = 0) -> str:
        request = cri.ExecSyncRequest(container_id=container, cmd=cmd, timeout=timeout)
        with pytest.raises((InvalidInput, FailedPrecondition)) as caught:
            await session_rpcs.exec_sync(front, request, fakes.a_call("ExecSync"))
        return caught.value.message

    assert "cmd" in await refused()
    assert "timeout" in await refused("true", timeout=-1)
    assert "not running" in await refused("true")


async def test_what_is_wrong_with_a_session_is_named(front: Front, container: str, pod: str) -> None:
    async def refused(ask: Callable[..., Awaitable[object]], request: object) -> str:
        with pytest.raises((InvalidInput, FailedPrecondition, NotFound)) as caught:
            await ask(front, request, fakes.a_call())
        return caught.value.message

    exec_, attach, forward = session_rpcs.exec_stream, session_rpcs.attach, session_rpcs.port_forward
    assert "cmd" in await refused(exec_, cri.ExecRequest(container_id=container, stdout=True))
    assert "one of them" in await refused(exec_, cri.ExecRequest(container_id=container, cmd=["true"]))
    assert "one of them" in await refused(attach, cri.AttachRequest(container_id=container))
    both = {"container_id": container, "tty": True, "stdout": True, "stderr": True}
    assert "terminal" in await refused(exec_, cri.ExecRequest(cmd=["true"], **both))
    assert "terminal" in await refused(attach, cri.AttachRequest(**both))
    for port in (0, -1, 65536):
        assert "port[1]" in await refused(forward, cri.PortForwardRequest(pod_sandbox_id=pod, port=[80, port]))
    idle = await fakes.create(front, pod, fakes.container_config("idle"))
    assert "not running" in await refused(attach, cri.AttachRequest(container_id=idle, stdout=True))
    assert "does not exist" in await refused(forward, cri.PortForwardRequest(pod_sandbox_id="f" * 64))


async def test_an_exec_from_its_url_to_its_end(front: Front, host: fakes.Host, container: str) -> None:
    request = cri.ExecRequest(container_id=container[:13], cmd=["ls", "-l"], stdin=True, stdout=True, tty=True)
    url = (await session_rpcs.exec_stream(front, request, fakes.a_call("Exec"))).url
    (expected,) = host.told
    assert isinstance(expected, ExpectRequest)
    assert url == f"http://127.0.0.1:7/exec/{expected.session}"
    assert (expected.kind, expected.target, expected.tty, expected.stdin) == (Kind.EXEC, container, True, True)
    opened = Opened(session=expected.session, kind=Kind.EXEC, target=container, width=80, height=24)
    told = await hear(front, host, opened, Ended(session=expected.session, kind=Kind.EXEC), count=2)
    assert told == [
        runtime.OpenExecRequest(
            session=expected.session, container=container, cmd=("ls", "-l"), tty=True, stdin=True, stdout=True,
            stderr=False, width=80, height=24,
        ),
        runtime.SessionRequest(session=expected.session),
    ]  # type: ignore[comparison-overlap]  # fmt: skip


async def test_what_the_runtime_says_against_it_is_told(front: Front, host: fakes.Host, container: str) -> None:
    request = cri.AttachRequest(container_id=container, stdout=True)
    await session_rpcs.attach(front, request, fakes.a_call("Attach"))
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
    await session_rpcs.exec_stream(
        front, cri.ExecRequest(container_id=container, cmd=["true"], stdout=True), fakes.a_call("Exec")
    )
    (expected,) = host.told
    assert isinstance(expected, ExpectRequest)
    (told,) = await hear(front, host, Opened(session=expected.session, kind=Kind.EXEC, target=other))
    assert isinstance(told, RefuseRequest)


async def test_connections_are_dialled(front: Front, host: fakes.Host, pod: str) -> None:
    await session_rpcs.port_forward(front, cri.PortForwardRequest(pod_sandbox_id=pod), fakes.a_call("PortForward"))
    (expected,) = host.told
    assert isinstance(expected, ExpectRequest)
    dials = [Dial(session=expected.session, connection=number, target=pod, port=80) for number in (1, 2)]
    host.fail["dial"] = [None, FailedPrecondition("connection refused")]
    told = await hear(front, host, *dials, count=2)
    dialled = network.DialRequest(session=expected.session, connection=1, sandbox=pod, port=80)  # type: ignore[arg-type]
    refused = RefuseRequest(session=expected.session, connection=2, message="connection refused")
    assert told == [dialled, refused]


async def test_a_stream_process_that_starts_anew_is_told_whom_to_expect(
    front: Front, host: fakes.Host, pod: str
) -> None:
    await session_rpcs.port_forward(front, cri.PortForwardRequest(pod_sandbox_id=pod), fakes.a_call("PortForward"))
    before = list(host.told)
    assert await hear(front, host, Waiting()) == before


async def test_a_session_that_the_stream_process_does_not_take_is_forgotten(
    front: Front, host: fakes.Host, pod: str
) -> None:
    host.fail["expect"] = [Unavailable("it is down")]
    with pytest.raises(Unavailable):
        await session_rpcs.port_forward(front, cri.PortForwardRequest(pod_sandbox_id=pod), fakes.a_call("PortForward"))
    assert not front.sessions.all(0)
