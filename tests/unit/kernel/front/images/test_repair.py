"""Images that lost layers: hidden until they are whole, fetched again by digest; checks say what they found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec import structs

from kernel.contracts.supervisor import Commit
from kernel.cri.generated import cri_pb2, node_pb2
from kernel.errors import FailedPrecondition, Unavailable
from kernel.front.context import Front
from kernel.front.images import image_queries, pulls, removal
from kernel.front.images import repair as image_repair
from kernel.front.node import doctor, node_service
from kernel.host.aio import Deadline
from tests.harness.fakes import image_workers as fakes

ONE, TWO = "docker.io/library/one:latest", "docker.io/library/two:latest"


@pytest.fixture
def workers():
    return fakes.Workers()


@pytest.fixture
async def front(workers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Front]:
    monkeypatch.setattr(image_repair, "_FIRST_PAUSE", 0.001)
    made = fakes.make_front(workers)
    workers.registry.push(ONE, "shared", "one")
    workers.registry.push(TWO, "shared", "two")
    for name in (ONE, TWO):
        request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=name))
        await pulls.pull_image(made, request, fakes.a_call())
    yield made
    await made.tasks.close()


async def listed(front: Front) -> set[str]:
    found = await fakes.listed(front)
    return {tag for image in found.images for tag in image.repo_tags}


def layer(name: str):
    return fakes.digest_of(f"diff {name}".encode())


async def test_what_lost_a_layer_is_hidden_and_fetched_again(front: Front, workers) -> None:
    workers.layers.discard(layer("one"))
    workers.fail["resolve"] = lambda _: Unavailable("the registry is away")
    (broken,) = await image_repair.find_incomplete(front)
    assert broken.tags == (ONE,)
    assert await listed(front) == {TWO}
    spec = cri_pb2.ImageSpec(image=ONE)
    for name in (ONE, broken.id):
        asked = cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image=name))
        assert not (await image_queries.image_status(front, asked, fakes.a_call("ImageStatus"))).HasField("image")
    filtered = cri_pb2.ListImagesRequest(filter=cri_pb2.ImageFilter(image=spec))
    assert not (await fakes.listed(front, filtered)).images
    mending = front.tasks.run(image_repair.watch(front), "mend")
    while workers.count("resolve") < 5:  # it is tried again and again
        await asyncio.sleep(0.001)
    assert await listed(front) == {TWO}
    del workers.fail["resolve"]
    await mending
    assert await listed(front) == {ONE, TWO}
    assert layer("one") in workers.layers
    assert front.replica.intents == {}


async def test_the_kubelets_own_pull_mends_it_too(front: Front, workers) -> None:
    workers.layers.discard(layer("shared"))
    await image_repair.find_incomplete(front)
    assert await listed(front) == set()
    for name in (ONE, TWO):
        request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=name))
        await pulls.pull_image(front, request, fakes.a_call())
    assert await listed(front) == {ONE, TWO}
    assert workers.count("fetch") == 4  # the shared layer once more


async def test_one_that_cannot_be_mended_can_be_removed(front: Front, workers) -> None:
    workers.layers.discard(layer("one"))
    await image_repair.find_incomplete(front)
    request = cri_pb2.RemoveImageRequest(image=cri_pb2.ImageSpec(image=ONE))
    await removal.remove_image(front, request, fakes.a_call("RemoveImage"))
    assert front.images.incomplete == set()
    assert workers.layers == {layer("shared"), layer("two")}


async def check(front: Front, *, repair: bool) -> dict[str, node_pb2.CheckImagesResponse]:
    request = node_pb2.CheckImagesRequest(repair=repair)
    found = node_service.check_images(front, request, fakes.a_call("CheckImages"))
    return {finding.layer: finding async for finding in found}


async def test_a_check_tells_and_changes_nothing(front: Front, workers) -> None:
    workers.damaged.add(layer("shared"))
    found = await check(front, repair=False)
    assert len(found) == 3
    bad = found[layer("shared")]
    assert (bad.state, bad.why, sorted(bad.images)) == ("damaged", "a byte", [ONE, TWO])
    assert found[layer("one")].state == "whole"
    assert workers.count("fetch") == 3
    assert layer("shared") in workers.layers


async def test_a_repair_fetches_what_is_damaged_and_no_more(front: Front, workers) -> None:
    workers.damaged.add(layer("shared"))
    workers.layers.discard(layer("two"))
    found = await check(front, repair=True)
    assert {one.layer for one in found.values() if one.repaired} == {layer("shared"), layer("two")}
    assert workers.layers == {layer("shared"), layer("one"), layer("two")}
    assert await listed(front) == {ONE, TWO}


async def test_what_cannot_be_repaired_is_said(front: Front, workers) -> None:
    workers.damaged.add(layer("two"))
    workers.fail["fetch"] = lambda _: Unavailable("the registry is away")
    found = (await check(front, repair=True))[layer("two")]
    assert (found.repaired, "the registry is away" in found.error) == (False, True)
    assert await listed(front) == {ONE}


async def test_an_image_of_an_archive_can_only_be_loaded_again(front: Front, workers) -> None:
    image = next(iter(front.replica.images.values()))
    with pytest.raises(FailedPrecondition, match="load its archive again"):
        await image_repair.again(front, structs.replace(image, digests=()), Deadline.after(5))


async def test_a_wipe_keeps_what_is_pinned_and_says_so(workers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing_more(front: Front, deadline: Deadline) -> doctor.Examined:
        return doctor.Examined(orphans=(), silent={})

    monkeypatch.setattr(doctor, "examine", nothing_more)
    front = fakes.make_front(workers, pinned=("*/two:*",))
    for name in (ONE, TWO):
        workers.registry.push(name, name)
        request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=name))
        await pulls.pull_image(front, request, fakes.a_call())
    reply = await node_service.wipe_images(front, node_pb2.WipeImagesRequest(), fakes.a_call("WipeImages"))
    assert {image.name: (image.removed, image.why) for image in reply.images} == {
        ONE: (True, ""), TWO: (False, "it is pinned by the configuration"),
    }  # fmt: skip
    assert await listed(front) == {TWO}
    await front.tasks.close()


async def test_an_image_that_comes_meanwhile_is_not_taken_for_a_broken_one(front: Front, workers) -> None:
    workers.hold["layers"] = asyncio.Event()
    looking = front.tasks.run(image_repair.find_incomplete(front), "look")
    while not workers.count("layers"):
        await asyncio.sleep(0)
    there = set(workers.layers)
    workers.layers = there  # what storage will tell
    one = next(image for image in front.replica.images.values() if ONE in image.tags)
    new = structs.replace(one, id="sha256:" + "e" * 64, layers=(structs.replace(one.layers[0], diff_id="sha256:new"),))
    await front.replica.commit(Commit(put_images=(new,)), Deadline.after(5))
    workers.hold["layers"].set()
    assert await looking == ()
    assert front.images.incomplete == set()
