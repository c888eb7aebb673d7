"""Exec, Attach and PortForward: what is refused, and what the stream process is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import FailedPrecondition, InvalidInput, NotFound, Unavailable
from kernel.front.context import Front
from kernel.front.sessions import urls
from tests.harness.fakes import pod_workers as fakes


@pytest.fixture
async def container(front: Front, pod: str) -> str:
    made = await fakes.create(front, pod)
    await fakes.start(front, made)
    return made


async def test_what_is_wrong_with_a_session_is_named(front: Front, container: str, pod: str) -> None:
    async def refused(ask: Callable[..., Awaitable[object]], request: object) -> str:
        with pytest.raises((InvalidInput, FailedPrecondition, NotFound)) as caught:
            await ask(front, request, fakes.a_call())
        return caught.value.message

    exec_, attach, forward = urls.exec_stream, urls.attach, urls.port_forward
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


async def test_a_session_that_the_stream_process_does_not_take_is_forgotten(
    front: Front, host: fakes.Host, pod: str
) -> None:
    host.fail["expect"] = [Unavailable("it is down")]
    with pytest.raises(Unavailable):
        await urls.port_forward(front, cri.PortForwardRequest(pod_sandbox_id=pod), fakes.a_call("PortForward"))
    assert not front.sessions.all(0)
