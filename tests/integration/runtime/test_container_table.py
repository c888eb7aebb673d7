"""Containers from creation to removal, with real conmon and runc."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from kernel.contracts.runtime import ContainerRequest, NamespaceMode, Resources, Security
from kernel.errors import FailedPrecondition
from kernel.host import pidfd
from tests.integration.runtime.conftest import Node


async def test_exit_code_and_log(node: Node) -> None:
    sandbox = await node.pod()
    container = await node.run(sandbox, "sh", "-c", "echo hello; echo oops >&2; exit 3")
    fact = await node.ended(container)
    assert (fact.state, fact.exit_code, fact.oom_killed) == ("exited", 3, False)
    assert 0 < fact.started_at <= fact.finished_at
    assert sorted(line.split(" ", 1)[1] for line in node.log(sandbox, container)) == ["stderr F oops", "stdout F hello"]


async def test_a_line_without_an_end_is_marked_partial(node: Node) -> None:
    sandbox = await node.pod()
    container = await node.run(sandbox, "printf", "half")
    await node.ended(container)
    assert node.log(sandbox, container)[0].split(" ", 1)[1] == "stdout P half"


async def test_an_end_by_signal_counts_as_a_shell_does(node: Node) -> None:
    sandbox = await node.pod()
    container = await node.run(sandbox, "sh", "-c", "kill -9 $$")
    assert (await node.ended(container)).exit_code in (0, 137)  # process 1 of a namespace ignores its own SIGKILL
    other = await node.run(sandbox, "sleep", "100")
    os.kill((await node.fact(other)).pid, signal.SIGKILL)
    assert (await node.ended(other)).exit_code == 137


async def test_an_out_of_memory_kill_is_told(node: Node) -> None:
    sandbox = await node.pod()
    container = await node.run(
        sandbox, "sh", "-c", "x=a; while true; do x=$x$x; done",
        resources=Resources(memory_limit_in_bytes=32 << 20, cpu_shares=512, cpu_quota=100000, cpu_period=100000),
    )  # fmt: skip
    fact = await node.ended(container, 30)
    assert fact.oom_killed
    assert fact.exit_code == 137
    assert not Path("oom").exists(), "conmon's note belongs in the container's bundle"


async def test_a_log_is_opened_anew(node: Node) -> None:
    sandbox = await node.pod()
    container = await node.run(sandbox, "sh", "-c", "echo one; while ! test -e /go; do sleep 0.05; done; echo two")
    path = node.base / "logs" / sandbox[:8] / "box" / f"{container[:6]}.log"
    while "one" not in path.read_text():
        await asyncio.sleep(0.02)
    path.rename(path.with_suffix(".old"))
    await node.service.reopen_log(ContainerRequest(container_id=container), node.call())
    assert path.exists()
    (node.config.paths.rootfs(container) / "go").touch()
    await node.ended(container)
    assert "two" in path.read_text()
    assert "two" not in path.with_suffix(".old").read_text()
    with pytest.raises(FailedPrecondition):
        await node.service.reopen_log(ContainerRequest(container_id=container), node.call())


async def test_without_a_pid_namespace_of_its_own_nothing_outlives_the_container(node: Node) -> None:
    sandbox = await node.pod(pid=NamespaceMode.NODE)
    container = await node.run(
        sandbox, "sh", "-c", "sleep 1234 & echo $$ $!; exit 0", security=Security(pid=NamespaceMode.NODE)
    )
    await node.ended(container)
    shell, left = map(int, node.log(sandbox, container)[0].split()[-2:])
    assert shell > 1
    await node.stop(container, 0)
    assert pidfd.identify(left) is None
