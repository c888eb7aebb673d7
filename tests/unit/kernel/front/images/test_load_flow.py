"""Images of an archive."""

from __future__ import annotations

import pytest

from kernel.contracts import image
from kernel.cri.generated import node_pb2
from kernel.errors import InvalidInput
from kernel.front.context import Front
from kernel.front.node import node_service
from tests.harness.fakes import image_workers as fakes


async def test_load(front: Front, workers) -> None:
    resolved = workers.registry.push(fakes.BUSYBOX, "a", "b")
    second = workers.registry.push("docker.io/library/x:latest", "b", "c")
    workers.archive = (
        image.LoadedImage(names=("busybox:1",), manifest_digest=None, config=resolved.config, layers=resolved.layers),
        image.LoadedImage(names=(), manifest_digest=None, config=second.config, layers=second.layers),
    )
    reply = await node_service.load_image(front, node_pb2.LoadImageRequest(archive="x.tar"), fakes.a_call("LoadImage"))
    assert [list(found.names) for found in reply.images] == [["docker.io/library/busybox:1"], []]
    assert workers.blobs == fakes.documents(front)
    assert len(front.replica.images) == 2
    assert (await fakes.status(front, "busybox:1")).image.id == reply.images[0].id


async def test_a_bad_archive_leaves_nothing(front: Front, workers) -> None:
    resolved = workers.registry.push(fakes.BUSYBOX, "a")
    workers.archive = (
        image.LoadedImage(names=("BAD NAME",), manifest_digest=None, config=resolved.config, layers=resolved.layers),
    )
    with pytest.raises(InvalidInput):
        await node_service.load_image(front, node_pb2.LoadImageRequest(archive="x.tar"), fakes.a_call("LoadImage"))
    fakes.assert_nothing_left(front, workers)
    with pytest.raises(InvalidInput, match="file name"):
        await node_service.load_image(front, node_pb2.LoadImageRequest(archive="../x"), fakes.a_call("LoadImage"))
