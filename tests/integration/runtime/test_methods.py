"""Attempts go on when their callers have left, and later calls join them."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.runtime.conftest import Node


async def test_an_attempt_goes_on_without_its_caller(node: Node) -> None:
    sandbox = await node.pod()
    request = node.create_request(sandbox, "sleep", "100")
    caller = asyncio.get_running_loop().create_task(node.create(request))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    created = await node.create(request)
    assert created.pid > 0
    assert (await node.fact(request.container_id)).pid == created.pid
