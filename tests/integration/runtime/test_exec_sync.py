"""ExecSync in real containers."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from kernel.contracts.runtime import Security
from kernel.errors import DeadlineExceeded, FailedPrecondition, Internal, InvalidInput, NotFound
from kernel.ids import ContainerId, new_id
from services.runtime.exits.proc_connector import ProcConnector
from tests.integration.runtime.conftest import Node


async def test_output_and_exit_code(node: Node) -> None:
    container = await node.run(await node.pod(), "sleep", "100", security=Security(run_as_user=33))
    done = await node.exec(container, "sh", "-c", "echo out; echo err >&2; id -u; exit 5")
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n33\n", b"err\n", 5)
    killed = await node.exec(container, "sh", "-c", "kill -9 $$")
    assert killed.exit_code == 137


async def test_what_cannot_run_is_an_error(node: Node) -> None:
    sandbox = await node.pod()
    container = await node.run(sandbox, "sleep", "100")
    with pytest.raises(Internal, match="no-such-program"):
        await node.exec(container, "no-such-program")
    with pytest.raises(InvalidInput, match="cmd"):
        await node.exec(container)
    with pytest.raises(NotFound):
        await node.exec(ContainerId(new_id()), "true")
    request = node.create_request(sandbox, "true")
    await node.create(request)
    with pytest.raises(FailedPrecondition):
        await node.exec(request.container_id, "true")
    await node.stop(container, 0)
    with pytest.raises(FailedPrecondition):
        await node.exec(container, "true")


async def test_the_time_limit_kills_all_that_came_of_the_command(any_node: Node) -> None:
    node = any_node
    container = await node.run(await node.pod(handler=node.handler), "sleep", "100")
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="within 1 s"):
        await node.exec(container, "sh", "-c", "(sleep 2222 & sleep 2222 &) ; sleep 2222; true", timeout=1)
    assert time.monotonic() - began < 4
    assert b"2222" not in (await node.exec(container, "ps")).stdout
    assert (await node.fact(container)).state == "running"
    folder = node.config.paths.runtime_state / "containers" / container
    assert not list(folder.glob("exec-*"))


async def test_a_child_that_holds_the_output_open_is_not_waited_for(node: Node) -> None:
    container = await node.run(await node.pod(), "sleep", "100")
    async with asyncio.timeout(5):
        done = await node.exec(container, "sh", "-c", "sleep 60 & echo said; exit 3")
        late = await node.exec(container, "sh", "-c", "sleep 61 & sleep 0.5; exit 4")
    assert (done.stdout, done.exit_code, late.exit_code) == (b"said\n", 3, 4)
    assert b"sleep 60" in (await node.exec(container, "ps")).stdout


@pytest.fixture(params=[True, False], ids=["process events", "no process events"])
def process_events(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel has it, and as in a namespace where it reports none."""
    if not request.param:
        monkeypatch.setattr(ProcConnector, "_subscribe", lambda _self: None)


@pytest.mark.usefixtures("process_events")
async def test_all_holds_with_and_without_process_events(any_node: Node) -> None:
    node = any_node
    sandbox = await node.pod(handler=node.handler)
    container = await node.run(sandbox, "sleep", "100", security=Security(run_as_user=33))
    async with asyncio.timeout(10):
        done = await node.exec(container, "sh", "-c", "sleep 60 & echo out; echo err > /dev/stderr; id -u; exit 3")
        assert (done.stdout, done.stderr, done.exit_code) == (b"out\n33\n", b"err\n", 3)
        assert (await node.exec(container, "sh", "-c", "sleep 61 & sleep 0.5; kill -9 $$")).exit_code == 137
    with pytest.raises(Internal, match="no-such-program"):
        await node.exec(container, "no-such-program")
    with pytest.raises(DeadlineExceeded, match="within 1 s"):
        await node.exec(container, "sh", "-c", "(sleep 2222 & sleep 2222 &) ; sleep 2222; true", timeout=1)
    shown = (await node.exec(container, "ps")).stdout
    assert b"sleep 60" in shown
    assert b"2222" not in shown
    cut = await node.exec(container, "dd", "if=/dev/zero", "bs=1M", "count=18")
    assert (len(cut.stdout), cut.exit_code) == (16 << 20, 0)
    many = await asyncio.gather(*(node.exec(container, "echo", str(number)) for number in range(8)))
    assert [one.stdout for one in many] == [f"{number}\n".encode() for number in range(8)]
    folder = node.config.paths.runtime_state / "containers" / container
    assert not [*folder.glob("exec-*"), *folder.glob("session-*")]


async def test_output_is_cut(node: Node) -> None:
    container = await node.run(await node.pod(), "sleep", "100")
    done = await node.exec(container, "dd", "if=/dev/zero", "bs=1M", "count=18")
    assert (len(done.stdout), done.exit_code) == (16 << 20, 0)


async def test_many_at_once(node: Node) -> None:
    container = await node.run(await node.pod(), "sleep", "100")
    done = await asyncio.gather(*(node.exec(container, "echo", str(number)) for number in range(8)))
    assert [one.stdout for one in done] == [f"{number}\n".encode() for number in range(8)]
    assert not list(Path(node.config.paths.runtime_state / "containers" / container).glob("exec-*"))
