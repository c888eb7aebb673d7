"""CreateContainer with workers that fail."""

from __future__ import annotations

import asyncio

import pytest

from kernel.errors import Internal, NotFound
from kernel.front.context import Front
from tests.harness.fakes import pod_workers as fakes


async def test_equal_creations_are_one(front: Front, host: fakes.Host, pod: str) -> None:
    first, second = await asyncio.gather(fakes.create(front, pod), fakes.create(front, pod))
    assert first == second == await fakes.create(front, pod)
    assert host.count("create") == 1
    assert await fakes.create(front, pod, fakes.container_config(attempt=1)) != first


@pytest.mark.parametrize("step", ["mount", "create", "commit"])
async def test_a_creation_that_fails_leaves_nothing(front: Front, host: fakes.Host, pod: str, step: str) -> None:
    host.fail[step] = [None, Internal("broken")] if step == "commit" else [Internal("broken")]
    with pytest.raises(Internal, match="broken"):
        await fakes.create(front, pod)
    assert (host.mounts, host.containers, host.disk.containers, host.disk.intents) == (set(), {}, {}, {})
    assert await fakes.create(front, pod) in host.containers


async def test_a_creation_waits_for_a_removal_of_its_image(front: Front, host: fakes.Host, pod: str) -> None:
    async with front.locks.hold(fakes.IMAGE.id):  # as a removal does, from its look for users on
        creation = asyncio.get_running_loop().create_task(fakes.create(front, pod))
        await asyncio.sleep(0.01)
        assert not host.disk.containers
        image = front.replica.images.pop(fakes.IMAGE.id)
    with pytest.raises(NotFound, match="removed meanwhile"):
        await creation
    front.replica.images[image.id] = image
    assert (host.mounts, host.disk.containers, host.disk.intents) == (set(), {}, {})
