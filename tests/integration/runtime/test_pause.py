"""Pods that share a PID namespace, and the process that holds it."""

from __future__ import annotations

import asyncio
import os
import signal

from kernel.contracts.runtime import NamespaceMode, PodChanged, Security
from tests.integration.runtime.conftest import Node


async def test_a_shared_pid_namespace_has_a_process_that_waits(node: Node) -> None:
    request = node.pod_request(pid=NamespaceMode.POD)
    made = await node.make_pod(request)
    assert made.pause_pid
    shared = Security(pid=NamespaceMode.POD)
    await node.run(request.sandbox_id, "sleep", "3333", security=shared)
    text = await node.output(request.sandbox_id, "ps; echo $$", security=shared)
    assert "3333" in text
    assert "/pause" in text
    events = node.watch()
    await anext(events)
    os.kill(made.pause_pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        async for event in events:
            if isinstance(event, PodChanged):
                assert not event.fact.ready
                break
    await events.aclose()


async def test_a_container_may_ask_for_the_pods_pid_namespace_by_itself(node: Node) -> None:
    sandbox = await node.pod()
    assert "/pause" in await node.output(sandbox, "ps", security=Security(pid=NamespaceMode.POD))
