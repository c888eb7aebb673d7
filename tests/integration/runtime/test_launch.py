"""Containers created through conmon, with what they inherit and what they log."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from kernel.errors import Internal, InvalidInput
from tests.integration.runtime.conftest import Node


async def test_the_monitor_is_nobodys_child_and_outlives_its_makers(node: Node) -> None:
    sandbox = await node.pod()
    container = await node.run(sandbox, "sleep", "100")
    bundle = node.config.paths.runtime_state / "containers" / container
    conmon = int((bundle / "conmon.pid").read_text())
    stat = Path(f"/proc/{conmon}/stat").read_text().rpartition(")")[2].split()
    assert int(stat[1]) != os.getpid()
    assert int(stat[3]) not in (os.getsid(0), os.getpid())
    held = {os.readlink(fd) for fd in Path(f"/proc/{conmon}/fd").iterdir()}
    assert not {path for path in held if "pytest" in path or path.endswith((".py", ".log.html"))}
    inner = (await node.fact(container)).pid
    async with asyncio.timeout(10):
        while Path(f"/proc/{inner}/comm").read_text() != "sleep\n":  # the OCI runtime's own process before that
            await asyncio.sleep(0.01)
    assert sorted(fd.name for fd in Path(f"/proc/{inner}/fd").iterdir()) == ["0", "1", "2"]


async def test_a_program_that_is_not_there_is_named(node: Node) -> None:
    sandbox = await node.pod()
    request = node.create_request(sandbox, "no-such-program")
    with pytest.raises(Internal, match="no-such-program"):
        await node.create(request)
    assert not (await node.facts()).containers


async def test_a_log_is_not_written_through_a_link(node: Node, base: Path) -> None:
    sandbox = await node.pod()
    request = node.create_request(sandbox, "true")
    folder = base / "logs" / sandbox[:8] / "box"
    folder.mkdir(parents=True)
    (folder / f"{request.container_id[:6]}.log").symlink_to(base / "target")
    with pytest.raises(InvalidInput, match="log_path"):
        await node.create(request)
    assert not (base / "target").exists()


async def test_a_terminal(node: Node) -> None:
    sandbox = await node.pod()
    text = await node.output(sandbox, "test -t 0 && echo terminal; echo $TERM", tty=True, stdin=True)
    assert text.split() == ["terminal", "xterm"]


async def test_crun_is_a_handler(crun_node: Node) -> None:
    sandbox = await crun_node.pod(handler="crun")
    container = await crun_node.run(sandbox, "sh", "-c", "echo crun; exit 4")
    assert (await crun_node.ended(container)).exit_code == 4
    running = await crun_node.run(sandbox, "sleep", "100")
    assert (await crun_node.exec(running, "echo", "in")).stdout == b"in\n"
    with pytest.raises(Internal, match="no-such"):
        await crun_node.exec(running, "no-such")
    with pytest.raises(Internal, match="no-such"):
        await crun_node.run(sandbox, "no-such")
    await crun_node.stop(running, 0)
    await crun_node.remove(running)
