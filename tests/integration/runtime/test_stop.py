"""Stopping real processes: signals, waits and what is left."""

from __future__ import annotations

import asyncio

from kernel.contracts.oci import ImageConfig
from kernel.ids import ContainerId, new_id
from tests.integration.runtime.conftest import Node


async def test_stop_sends_the_signal_and_waits(node: Node) -> None:
    sandbox = await node.pod()
    script = "trap 'echo stopped; exit 7' USR1; echo ready; while true; do sleep 0.1; done"
    container = await node.run(sandbox, "sh", "-c", script, image=ImageConfig(stop_signal="SIGUSR1"))
    while not node.log(sandbox, container):
        await asyncio.sleep(0.05)
    await node.stop(container)
    assert (await node.fact(container)).exit_code == 7
    await node.stop(container)
    await node.stop(ContainerId(new_id()))


async def test_a_later_stop_with_less_time_shortens_the_first(node: Node) -> None:
    sandbox = await node.pod()
    container = await node.run(sandbox, "sh", "-c", "trap '' TERM; while true; do sleep 1; done")
    async with asyncio.timeout(10):
        await asyncio.gather(node.stop(container, 100), node.stop(container, 0))
    assert (await node.fact(container)).exit_code == 137


async def test_a_fork_bomb_is_killed(node: Node) -> None:
    container = await node.run(await node.pod(), "sh", "-c", "f() { sleep 0.01; f & f; }; (f &) ; (f &) ; sleep 100")
    await asyncio.sleep(0.2)
    async with asyncio.timeout(20):
        await node.stop(container, 0)
