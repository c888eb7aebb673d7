"""RemoveContainer through the front's flow, before workers of paper."""

from __future__ import annotations

import pytest

from kernel.errors import NotFound
from kernel.front.context import Front
from tests.harness.fakes import pod_workers as fakes


async def test_a_running_container_is_removed_by_force(front: Front, host: fakes.Host, pod: str) -> None:
    container = await fakes.create(front, pod)
    await fakes.start(front, container)
    await fakes.remove_container(front, container)
    assert host.containers == {}
    with pytest.raises(NotFound):
        front.replica.container(container)


async def test_what_a_worker_misses_during_a_removal_is_no_success(front: Front, host: fakes.Host, pod: str) -> None:
    container = await fakes.create(front, pod)
    host.fail["unmount"] = [NotFound("its folder is not there")]
    with pytest.raises(NotFound, match="folder"):
        await fakes.remove_container(front, container)
    assert front.replica.container(container).id == container
    await fakes.remove_container(front, container)
    assert not host.disk.intents
