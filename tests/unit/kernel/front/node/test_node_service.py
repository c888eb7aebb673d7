"""crisp.v1.Node: a pull whose progress is watched."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kernel.cri.generated import node_pb2
from kernel.errors import NotFound
from kernel.front.context import Front
from kernel.front.node import node_service
from tests.harness.fakes import image_workers as fakes


@pytest.fixture
def workers():
    return fakes.Workers()


@pytest.fixture
async def front(workers) -> AsyncIterator[Front]:
    made = fakes.make_front(workers)
    yield made
    await made.tasks.close()


async def test_a_watched_pull_tells_how_far_it_is(front: Front, workers) -> None:
    resolved = workers.registry.push(fakes.BUSYBOX, "a")
    request = node_pb2.PullImageRequest(image="busybox")
    messages = [part async for part in node_service.pull_image(front, request, fakes.a_call())]
    assert messages[-1].id == fakes.digest_of(resolved.config)
    last = [layer for message in messages for layer in message.layers][-1]
    assert (last.phase, last.done, last.total) == (node_pb2.DONE, 100, 100)


async def test_a_watched_pull_that_fails(front: Front, workers) -> None:
    with pytest.raises(NotFound):
        async for _ in node_service.pull_image(front, node_pb2.PullImageRequest(image="none"), fakes.a_call()):
            pass
