"""A created container's process runs once, however often it is started."""

from __future__ import annotations

import asyncio

from tests.integration.runtime.conftest import Node


async def test_start_is_once(node: Node) -> None:
    sandbox = await node.pod()
    request = node.create_request(sandbox, "sh", "-c", "echo once; exit 0")
    first = await node.create(request)
    assert await node.create(request) == first
    assert (await node.fact(request.container_id)).state == "created"
    starts = await asyncio.gather(*(node.start(request.container_id) for _ in range(3)))
    await node.ended(request.container_id)
    assert {*starts, await node.start(request.container_id)} == {starts[0]}
    assert len(node.log(sandbox, request.container_id)) == 1
