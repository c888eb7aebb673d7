"""What CreateContainer refuses before anything is done, and what its record holds of the image."""

from __future__ import annotations

import pytest

from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import InvalidInput, NotFound
from kernel.front.context import Front
from tests.harness.fakes import pod_workers as fakes


async def test_what_a_creation_refuses(front: Front, host: fakes.Host, pod: str) -> None:
    with pytest.raises(NotFound, match="pull it first"):
        await fakes.create(front, pod, fakes.container_config(image="quay.io/none:1"))
    with pytest.raises(InvalidInput, match=r"config\.image"):
        await fakes.create(front, pod, fakes.container_config(image=""))
    with pytest.raises(NotFound):
        await fakes.create(front, "f" * 64)
    config = fakes.container_config()
    config.linux.security_context.namespace_options.pid = cri.TARGET
    config.linux.security_context.namespace_options.target_id = "e" * 64
    with pytest.raises(InvalidInput, match="target_id"):
        await fakes.create(front, pod, config)
    assert host.mounts == set()
    assert not host.disk.intents


async def test_an_image_is_known_by_id_tag_and_digest(front: Front, pod: str) -> None:
    names = [
        "busybox", "docker.io/library/busybox:latest", fakes.IMAGE.id, fakes.IMAGE.id.removeprefix("sha256:"),
        fakes.IMAGE.id.removeprefix("sha256:")[:12], fakes.IMAGE.digests[0],
    ]  # fmt: skip
    for attempt, name in enumerate(names):
        container = await fakes.create(front, pod, fakes.container_config(image=name, attempt=attempt))
        record = front.replica.container(container)
        assert (record.image_id, record.image_ref) == (fakes.IMAGE.id, fakes.IMAGE.digests[0])
    by_id = next(one for one in front.replica.containers.values() if one.attempt == 2)
    assert by_id.image_name == "docker.io/library/busybox:latest"
