"""Containers removed, whatever they do."""

from __future__ import annotations

import pytest

from kernel.errors import FailedPrecondition, NotFound
from tests.integration.runtime.conftest import Node


async def test_a_created_container_is_stopped_and_removed_without_a_start(node: Node) -> None:
    sandbox = await node.pod()
    request = node.create_request(sandbox, "sleep", "100")
    await node.create(request)
    await node.stop(request.container_id, 100)
    assert (await node.fact(request.container_id)).state == "exited"
    with pytest.raises(FailedPrecondition, match="before it was started"):
        await node.start(request.container_id)
    await node.remove(request.container_id)
    await node.remove(request.container_id)
    with pytest.raises(NotFound):
        await node.start(request.container_id)


async def test_remove_kills_what_runs(node: Node) -> None:
    sandbox = await node.pod()
    container = await node.run(sandbox, "sh", "-c", "sleep 100 & sleep 100 & wait")
    await node.remove(container)
    assert not (await node.facts()).containers
