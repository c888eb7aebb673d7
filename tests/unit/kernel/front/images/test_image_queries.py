"""Images by every name that they have, in statuses and lists."""

from __future__ import annotations

import json

import pytest

from kernel.cri.generated import cri_pb2
from kernel.errors import InvalidInput, NotFound
from kernel.front.context import Front
from kernel.front.images import image_queries
from tests.harness.fakes import image_workers as fakes


async def test_a_pull_is_found_by_every_name(front: Front, workers) -> None:
    resolved = workers.registry.push(fakes.BUSYBOX, "a", "b", config={"User": "1000:1", "Env": ["A=b"]})
    id_ = await fakes.pull(front)
    assert id_ == fakes.digest_of(resolved.config)
    for name in ("busybox", fakes.BUSYBOX, id_, id_[7:], id_[7:20], f"busybox@{resolved.digest}"):
        found = (await fakes.status(front, name)).image
        assert found.id == id_, name
    assert found.repo_tags == [fakes.BUSYBOX]
    assert found.repo_digests == [f"docker.io/library/busybox@{resolved.digest}"]
    assert (found.size, found.uid.value, found.username, found.pinned) == (2000, 1000, "", True)
    assert found.spec.image == fakes.BUSYBOX
    info = json.loads((await fakes.status(front, "busybox", verbose=True)).info["info"])
    assert info["imageSpec"]["config"]["Env"] == ["A=b"]
    assert workers.blobs == fakes.documents(front)
    assert front.replica.intents == {}


async def test_unknown_images(front: Front, workers) -> None:
    assert not (await fakes.status(front, "nothing")).HasField("image")
    await fakes.remove(front, "nothing")
    with pytest.raises(NotFound):
        await fakes.pull(front, "nothing")
    fakes.assert_nothing_left(front, workers)


@pytest.mark.parametrize("name", ["", "UPPER", "a/../b", "busybox@sha256:12", "http://x/y"])
async def test_malformed_names_change_nothing(front: Front, workers, name: str) -> None:
    for step in (fakes.pull, fakes.status, fakes.remove):
        with pytest.raises(InvalidInput):
            await step(front, name)
    assert workers.calls == []


async def test_an_ambiguous_beginning_of_an_id_is_refused(front: Front, workers) -> None:
    found: dict[str, str] = {}
    for number in range(200):  # by then two ids begin alike
        workers.registry.push(f"docker.io/library/x:{number}", "a", config={"Cmd": [str(number)]})
        id_ = (await fakes.pull(front, f"x:{number}")).removeprefix("sha256:")
        if id_[:3] in found:
            break
        found[id_[:3]] = id_
    for act in (fakes.status, fakes.remove):
        with pytest.raises(InvalidInput, match=f"{id_[:3]}.*more than one"):
            await act(front, id_[:3])
    assert (await fakes.status(front, id_[:20])).image.id == f"sha256:{id_}"
    await fakes.remove(front, f"sha256:{id_[:20]}")
    assert not (await fakes.status(front, id_)).HasField("image")


async def test_list_filter(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a")
    await fakes.pull(front)

    async def listed(name: str) -> int:
        wanted = cri_pb2.ImageFilter(image=cri_pb2.ImageSpec(image=name))
        found = await fakes.listed(front, cri_pb2.ListImagesRequest(filter=wanted))
        return len(found.images)

    assert [await listed("busybox"), await listed("other"), await listed("BAD:")] == [1, 0, 0]


async def test_stream_in_chunks(front: Front, workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_queries, "_CHUNK", 2)
    for number in range(5):
        workers.registry.push(f"docker.io/library/i{number}:latest", f"l{number}")
        await fakes.pull(front, f"i{number}")
    stream = image_queries.stream_images(front, cri_pb2.StreamImagesRequest(), fakes.a_call("StreamImages"))
    parts = [cri_pb2.StreamImagesResponse.FromString(part) async for part in stream]
    assert [len(part.images) for part in parts] == [2, 2, 1]


async def test_a_list_is_made_of_what_changed(front: Front, workers) -> None:
    """Names that an image gets or loses are seen; what did not change is not made again."""
    workers.registry.push(fakes.BUSYBOX, "a")
    workers.registry.push("docker.io/library/other:latest", "b")
    other = await fakes.pull(front, "other")
    id_ = await fakes.pull(front)
    before = {one.id: front.image_items.of(one) for one in front.replica.images.values()}
    workers.registry.images["docker.io/library/moved:v1"] = workers.registry.images[fakes.BUSYBOX]
    await fakes.pull(front, "moved:v1")
    assert {one.id: list(one.repo_tags) for one in (await fakes.listed(front)).images}[id_] == [
        fakes.BUSYBOX, "docker.io/library/moved:v1",
    ]  # fmt: skip
    assert front.image_items.of(front.replica.images[other]) is before[other]


@pytest.mark.parametrize(
    ("pattern", "pinned"),
    [
        ("busybox", True),
        ("docker.io/library/busybox:latest", True),
        ("busybox:1", False),
        ("docker.io/library/*", True),
        ("docker.io/lib", False),
        ("*box*", True),
        ("*Box*", False),
        ("*", True),
        ("sha256:*", True),
    ],
)
async def test_images_are_pinned_by_name_beginning_or_keyword(workers, pattern: str, pinned: bool) -> None:
    front = fakes.make_front(workers, pinned=(pattern,))
    workers.registry.push(fakes.BUSYBOX, "a")
    await fakes.pull(front)
    assert (await fakes.status(front, "busybox")).image.pinned is pinned
    await front.tasks.close()
