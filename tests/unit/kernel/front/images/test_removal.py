"""RemoveImage: which layers go with the image, and which images stay."""

from __future__ import annotations

import asyncio

import pytest

from kernel.contracts.records import Container, ContainerState, IntentKind
from kernel.contracts.supervisor import Commit
from kernel.errors import FailedPrecondition
from kernel.front.context import Front
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, ImageId, SandboxId
from tests.harness.fakes import image_workers as fakes


async def test_remove(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a", "b")
    workers.registry.push("docker.io/library/other:latest", "a", "c")
    await fakes.pull(front)
    await fakes.pull(front, "other")
    await fakes.remove(front, "busybox")
    await fakes.remove(front, "busybox")
    assert workers.layers == {fakes.digest_of(b"diff a"), fakes.digest_of(b"diff c")}
    await fakes.remove(front, "other")
    fakes.assert_nothing_left(front, workers)
    removal = next(commit for commit in workers.commits if commit.delete_images)
    assert [intent.kind for intent in removal.begin] == [IntentKind.REMOVE_IMAGE]


async def test_an_image_in_use_stays(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a")
    id_ = await fakes.pull(front)
    user = Container(
        id=ContainerId("c" * 64),
        sandbox_id=SandboxId("d" * 64),
        name="web",
        attempt=0,
        state=ContainerState.EXITED,
        created_at=1,
        config=b"",
        image_id=ImageId(id_),
        image_ref=id_,
        image_name="busybox",
    )
    await front.replica.commit(Commit(put_containers=(user,)), Deadline.after(1))
    with pytest.raises(FailedPrecondition, match="web"):
        await fakes.remove(front, "busybox")
    assert len(workers.layers) == 1


async def test_removal_waits_for_a_pull_that_counts_on_a_layer(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a")
    workers.registry.push("docker.io/library/other:latest", "a", "c")
    await fakes.pull(front)
    workers.hold["fetch"] = asyncio.Event()
    second = asyncio.get_running_loop().create_task(fakes.pull(front, "other"))
    while workers.count("fetch") < 2:
        await asyncio.sleep(0)
    await fakes.remove(front, "busybox")
    workers.hold["fetch"].set()
    await second
    assert workers.layers == {fakes.digest_of(b"diff a"), fakes.digest_of(b"diff c")}
