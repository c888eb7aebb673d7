"""Pulls, loads and removals with workers that fail and lie: what is recorded, and what is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs

from kernel.config.sections import Config, ImageSection
from kernel.contracts import image, storage
from kernel.contracts.records import Container, ContainerState, Intent, IntentKind
from kernel.contracts.supervisor import Commit
from kernel.cri.generated import cri_pb2, node_pb2
from kernel.errors import Corrupt, CrispError, FailedPrecondition, InvalidInput, NotFound, Unavailable
from kernel.front.context import Front
from kernel.front.images import image_service, pull_flow
from kernel.front.images.pull_flow import release
from kernel.front.node import node_service
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, Digest, ImageId, SandboxId
from tests.harness.fakes import image_workers as fakes

BUSYBOX = "docker.io/library/busybox:latest"


@pytest.fixture
def workers():
    return fakes.Workers()


@pytest.fixture
async def front(workers) -> AsyncIterator[Front]:
    made = fakes.make_front(workers, pinned=("busybox", "registry.k8s.io/pause*"))
    yield made
    await made.tasks.close()


async def pull(front: Front, name: str = "busybox", **auth: str) -> str:
    request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=name), auth=cri_pb2.AuthConfig(**auth))
    return (await image_service.pull_image(front, request, fakes.a_call())).image_ref


async def status(front: Front, name: str, *, verbose: bool = False) -> cri_pb2.ImageStatusResponse:
    request = cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image=name), verbose=verbose)
    return await image_service.image_status(front, request, fakes.a_call("ImageStatus"))


async def remove(front: Front, name: str) -> None:
    request = cri_pb2.RemoveImageRequest(image=cri_pb2.ImageSpec(image=name))
    await image_service.remove_image(front, request, fakes.a_call("RemoveImage"))


def documents(front: Front) -> set[str]:
    """Configurations and manifests of the images that are here."""
    return {blob for found in front.replica.images.values() for blob in (found.id, *found.manifest_digests)}


def assert_nothing_left(front: Front, workers) -> None:
    assert workers.layers == set()
    assert workers.blobs == set()
    assert front.replica.images == {}
    assert front.replica.intents == {}
    assert front.images.pulls == {}


async def test_a_pull_is_found_by_every_name(front: Front, workers) -> None:
    resolved = workers.registry.push(BUSYBOX, "a", "b", config={"User": "1000:1", "Env": ["A=b"]})
    id_ = await pull(front)
    assert id_ == fakes.digest_of(resolved.config)
    for name in ("busybox", BUSYBOX, id_, id_[7:], id_[7:20], f"busybox@{resolved.digest}"):
        found = (await status(front, name)).image
        assert found.id == id_, name
    assert found.repo_tags == [BUSYBOX]
    assert found.repo_digests == [f"docker.io/library/busybox@{resolved.digest}"]
    assert (found.size, found.uid.value, found.username, found.pinned) == (2000, 1000, "", True)
    assert found.spec.image == BUSYBOX
    info = json.loads((await status(front, "busybox", verbose=True)).info["info"])
    assert info["imageSpec"]["config"]["Env"] == ["A=b"]
    assert workers.blobs == documents(front)
    assert front.replica.intents == {}


async def test_the_intent_comes_first_and_ends_with_the_record(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a")
    await pull(front)
    begin, end = workers.commits
    assert [intent.kind for intent in begin.begin] == [IntentKind.PULL_IMAGE]
    assert begin.begin[0].layers == tuple(workers.layers)
    assert end.end == (begin.begin[0].id,)
    assert len(end.put_images) == 1
    names = [name for name, _ in workers.calls]
    assert names.index("commit") < names.index("fetch") < names.index("unpack") < names.index("drop")


async def test_unknown_images(front: Front, workers) -> None:
    assert not (await status(front, "nothing")).HasField("image")
    await remove(front, "nothing")
    with pytest.raises(NotFound):
        await pull(front, "nothing")
    assert_nothing_left(front, workers)


@pytest.mark.parametrize("name", ["", "UPPER", "a/../b", "busybox@sha256:12", "http://x/y"])
async def test_malformed_names_change_nothing(front: Front, workers, name: str) -> None:
    for step in (pull, status, remove):
        with pytest.raises(InvalidInput):
            await step(front, name)
    assert workers.calls == []


async def test_equal_pulls_join(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a")
    workers.hold["fetch"] = asyncio.Event()
    both = asyncio.gather(pull(front, "docker.io/busybox"), pull(front, BUSYBOX))
    while not workers.count("fetch"):
        await asyncio.sleep(0)
    workers.hold["fetch"].set()
    first, second = await both
    assert first == second
    assert (workers.count("resolve"), workers.count("fetch"), workers.count("unpack")) == (1, 1, 1)


async def test_a_short_name_is_tried_at_one_registry_after_the_other(workers, tmp_path: Path) -> None:
    conf = tmp_path / "registries.conf"
    front = fakes.make_front(workers, registries_conf=str(conf))
    conf.write_text('unqualified-search-registries = ["one.example", "two.example"]\n')
    with pytest.raises(NotFound, match=r"one\.example/app:v1 is at no registry; two\.example/app:v1 is"):
        await pull(front, "app:v1")
    workers.registry.push("two.example/app:v1", "a")
    workers.fail[image.RESOLVE.name] = lambda asked: (
        Unavailable("it is away") if asked.reference.startswith("one.") else None
    )
    two = await pull(front, "app:v1")
    assert (await status(front, "app:v1")).image.id == (await status(front, "two.example/app:v1")).image.id == two
    assert not (await status(front, "docker.io/library/app:v1")).HasField("image")
    workers.fail.clear()
    one = workers.registry.push("one.example/app:v1", "b")
    await pull(front, "one.example/app:v1")
    assert (await status(front, "app:v1")).image.id == fakes.digest_of(one.config)  # as a pull would find it
    conf.write_text('[aliases]\napp = "two.example/app"\n')  # from now on, with no restart
    assert (await status(front, "app:v1")).image.id == two
    assert await pull(front, "app:v1") == two
    conf.write_text('short-name-mode = "enforcing"\nunqualified-search-registries = ["one.example", "two.example"]\n')
    with pytest.raises(FailedPrecondition, match="enforcing"):
        await pull(front, "app:v1")
    await remove(front, "app:v1")
    assert not (await status(front, "one.example/app:v1")).HasField("image")
    await front.tasks.close()


async def test_credentials_without_a_server_are_not_sent_to_what_a_short_name_may_mean(workers, tmp_path: Path) -> None:
    """The kubelet finds them for docker.io."""
    conf = tmp_path / "registries.conf"
    conf.write_text('unqualified-search-registries = ["one.example", "docker.io"]\n')
    front = fakes.make_front(workers, registries_conf=str(conf))
    workers.registry.push(BUSYBOX, "a")
    await pull(front, "busybox", username="ann", password="secret")
    asked = [request for _, request in workers.calls if isinstance(request, image.ResolveRequest)]
    assert [(one.reference.partition("/")[0], one.auth is not None) for one in asked] == [
        ("one.example", False), ("docker.io", True),
    ]  # fmt: skip
    workers.calls.clear()
    await pull(front, "busybox", username="ann", password="secret", server_address="https://one.example")
    asked = [request for _, request in workers.calls if isinstance(request, image.ResolveRequest)]
    assert [one.auth is not None for one in asked] == [True, False]
    await front.tasks.close()


async def test_the_pods_namespace_goes_to_the_image_worker(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a")
    pod = cri_pb2.PodSandboxConfig(metadata=cri_pb2.PodSandboxMetadata(namespace="team-a"))
    request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image="busybox"), sandbox_config=pod)
    await image_service.pull_image(front, request, fakes.a_call())
    asked = [one for _, one in workers.calls if isinstance(one, image.ResolveRequest | image.FetchRequest)]
    assert [one.namespace for one in asked] == ["team-a", "team-a"]
    request.sandbox_config.metadata.namespace = "../x"
    with pytest.raises(InvalidInput, match=r"sandbox_config\.metadata\.namespace"):
        await image_service.pull_image(front, request, fakes.a_call())


async def test_an_ambiguous_beginning_of_an_id_is_refused(front: Front, workers) -> None:
    found: dict[str, str] = {}
    for number in range(200):  # by then two ids begin alike
        workers.registry.push(f"docker.io/library/x:{number}", "a", config={"Cmd": [str(number)]})
        id_ = (await pull(front, f"x:{number}")).removeprefix("sha256:")
        if id_[:3] in found:
            break
        found[id_[:3]] = id_
    for act in (status, remove):
        with pytest.raises(InvalidInput, match=f"{id_[:3]}.*more than one"):
            await act(front, id_[:3])
    assert (await status(front, id_[:20])).image.id == f"sha256:{id_}"
    await remove(front, f"sha256:{id_[:20]}")
    assert not (await status(front, id_)).HasField("image")


async def test_a_pull_goes_on_where_its_caller_asks_again(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a")
    workers.hold["fetch"] = asyncio.Event()
    caller = asyncio.get_running_loop().create_task(pull(front))
    while not workers.count("fetch"):
        await asyncio.sleep(0)
    (under_way,) = front.images.pulls.values()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert (under_way.waiting, under_way.task.done()) == (0, False)
    repeated = asyncio.get_running_loop().create_task(pull(front, BUSYBOX))
    while not under_way.waiting:
        await asyncio.sleep(0)
    workers.hold["fetch"].set()
    await repeated
    assert workers.count("resolve") == 1


@pytest.mark.parametrize("watched", [False, True])
async def test_a_pull_that_nobody_waits_for_ends_and_leaves_nothing(
    front: Front, workers, monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    monkeypatch.setattr(image_service, "ABANDONED_SECONDS", 0.0)
    workers.registry.push(BUSYBOX, "a", "b")
    workers.hold["fetch"] = asyncio.Event()

    async def watch() -> None:
        async for _ in node_service.pull_image(front, node_pb2.PullImageRequest(image="busybox"), fakes.a_call()):
            pass

    callers = [asyncio.get_running_loop().create_task(watch() if watched else pull(front)) for _ in range(2)]
    while workers.count("fetch") < 2:
        await asyncio.sleep(0)
    (under_way,) = front.images.pulls.values()
    while under_way.waiting < 2:
        await asyncio.sleep(0)
    callers[0].cancel()
    await asyncio.wait(callers[:1])
    for _ in range(20):
        await asyncio.sleep(0)
    assert (under_way.waiting, under_way.progress.abandoned) == (1, False)
    callers[1].cancel()
    await asyncio.wait_for(asyncio.wait([under_way.task]), 10)
    assert under_way.task.cancelled()
    assert_nothing_left(front, workers)
    workers.hold["fetch"].set()
    await pull(front)
    assert workers.count("resolve") == 2


async def test_a_new_pull_waits_for_the_end_of_one_that_was_given_up(
    front: Front, workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_service, "ABANDONED_SECONDS", 0.0)
    workers.registry.push(BUSYBOX, "a")
    workers.hold["fetch"], workers.hold["drop"] = asyncio.Event(), asyncio.Event()
    first = asyncio.get_running_loop().create_task(pull(front))
    while not workers.count("fetch"):
        await asyncio.sleep(0)
    first.cancel()
    while not workers.count("drop"):
        await asyncio.sleep(0.001)
    second = asyncio.get_running_loop().create_task(pull(front))
    while workers.count("resolve") < 2:
        await asyncio.sleep(0)
    workers.hold["fetch"].set()
    assert workers.count("fetch") == 1
    workers.hold["drop"].set()
    await second
    assert workers.layers == {fakes.digest_of(b"diff a")}


async def test_documents_stay_with_the_image(front: Front, workers) -> None:
    one = workers.registry.push(BUSYBOX, "a", "b")
    id_ = ImageId(Digest(await pull(front)))
    assert workers.blobs == set(front.replica.images[id_].blobs) == {id_, one.manifest_digest}
    other = await pull(front, f"docker.io/library/busybox@{one.manifest_digest}")
    assert (other, len(front.replica.images[id_].blobs)) == (id_, 2)
    await remove(front, "busybox")
    assert_nothing_left(front, workers)


async def test_compressed_layers_stay_where_the_configuration_keeps_them(front: Front, workers) -> None:
    front.config = Config(image=ImageSection(registries_conf="/none", keep_blobs=True))
    a, b, c = (fakes.digest_of(f"blob {name}".encode()) for name in "abc")
    workers.registry.push(BUSYBOX, "a", "b")
    workers.registry.push("docker.io/library/other:latest", "b", "c")
    id_ = ImageId(Digest(await pull(front)))
    assert {a, b} < workers.blobs == set(front.replica.images[id_].blobs)
    await pull(front, "other")
    await remove(front, "busybox")
    assert workers.blobs & {a, b, c} == {b, c}  # the other image has the shared one
    await remove(front, "other")
    assert_nothing_left(front, workers)


async def test_layers_that_are_there_are_not_fetched(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a", "b")
    workers.registry.push("docker.io/library/other:latest", "a", "c")
    await pull(front, "busybox")
    await pull(front, "other")
    assert workers.count("fetch") == 3
    assert len(workers.layers) == 3


async def test_two_pulls_at_once_share_a_layer(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a", "b")
    workers.registry.push("docker.io/library/other:latest", "a", "c")
    await asyncio.gather(pull(front, "busybox"), pull(front, "other"))
    assert workers.count("fetch") == 3
    assert workers.blobs == documents(front)


async def test_a_repeated_layer_is_one(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a", "b", "a")
    id_ = await pull(front)
    assert [layer.diff_id for layer in front.replica.images[ImageId(id_)].layers] == [
        fakes.digest_of(b"diff b"),
        fakes.digest_of(b"diff a"),
    ]


@pytest.mark.parametrize("method", ["fetch", "unpack", "drop", "layers"])
async def test_a_failing_step_leaves_nothing(front: Front, workers, method: str) -> None:
    workers.registry.push(BUSYBOX, "a", "b", "c")
    failures = iter([None, Corrupt("registry example.com: connection reset")])
    workers.fail[method] = lambda _: next(failures, None)
    if method == "layers":
        workers.fail[method] = lambda _: Corrupt("registry example.com: connection reset")
    with pytest.raises(Corrupt, match=r"example\.com"):
        await pull(front)
    assert_nothing_left(front, workers)
    del workers.fail[method]
    await pull(front)


async def test_what_has_come_stays_for_a_while_where_a_registry_was_away(
    front: Front, workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet asks again: layers that are unpacked are not fetched twice, blobs that are here are put aside."""
    resolved = workers.registry.push(BUSYBOX, "a", "b")
    gone = resolved.layers[1].digest
    unpacked = asyncio.Event()

    def away(request: image.FetchRequest) -> CrispError | None:
        return Unavailable("registry example.com: connection reset") if request.blob.digest == gone else None

    call = workers.call

    async def in_order(method, request, **how):
        if isinstance(request, image.FetchRequest) and request.blob.digest == gone:
            await unpacked.wait()
        answer = await call(method, request, **how)
        if method is image.DROP:
            unpacked.set()
        return answer

    monkeypatch.setattr(workers, "call", in_order)
    workers.fail["fetch"] = away
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"example\.com"):
            await pull(front)
        assert workers.layers == {fakes.digest_of(b"diff a")}
    assert [one.aside for _, one in workers.calls if isinstance(one, image.DropRequest)] == [False, True, True]
    del workers.fail["fetch"]
    await pull(front)
    assert workers.count("fetch") == 4  # of the first layer only once
    assert front.replica.intents == {}
    await remove(front, "busybox")
    workers.fail["fetch"] = away
    monkeypatch.setattr(pull_flow, "REPEATED_SECONDS", 0.0)
    with pytest.raises(Unavailable):
        await pull(front)
    while front.replica.intents:  # nobody asked again
        await asyncio.sleep(0.001)
    assert_nothing_left(front, workers)


async def test_a_failing_pull_keeps_what_others_have(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a", "b")
    workers.registry.push("docker.io/library/other:latest", "a", "c")
    await pull(front)
    workers.fail["unpack"] = lambda _: Corrupt("it does not give its diff id")
    with pytest.raises(Corrupt, match=r"layer sha256:.* of image docker.io/library/other:latest"):
        await pull(front, "other")
    assert workers.layers == {fakes.digest_of(b"diff a"), fakes.digest_of(b"diff b")}
    assert workers.blobs == documents(front)
    assert (await status(front, "busybox")).image.id


async def test_a_failing_pull_keeps_what_another_pull_counts_on(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a", "b")
    workers.registry.push("docker.io/library/other:latest", "a", "c")
    lie = fakes.digest_of(b"diff c")
    workers.fail["unpack"] = lambda request: Corrupt("no") if request.layer.diff_id == lie else None
    good, bad = await asyncio.gather(pull(front), pull(front, "other"), return_exceptions=True)
    assert isinstance(good, str)
    assert isinstance(bad, Corrupt)
    assert workers.layers == {fakes.digest_of(b"diff a"), fakes.digest_of(b"diff b")}


async def test_where_undoing_fails_the_intent_stays(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a")
    workers.fail["fetch"] = lambda _: Unavailable("gone")
    workers.fail["remove_layer"] = lambda _: Unavailable("storage worker is down")
    with pytest.raises(Unavailable, match="gone"):
        await pull(front)
    (intent,) = front.replica.intents.values()
    del workers.fail["remove_layer"]
    await release(front, intent, Deadline.after(5))
    assert_nothing_left(front, workers)


async def test_a_lying_answer_to_a_digest(front: Front, workers) -> None:
    honest = workers.registry.push(BUSYBOX, "a")
    name = f"docker.io/library/busybox@{honest.digest}"
    workers.registry.images[name] = structs.replace(
        honest, digest=fakes.digest_of(b"x"), manifest_digest=fakes.digest_of(b"y")
    )
    with pytest.raises(Corrupt, match="what came has digest"):
        await pull(front, name)
    assert_nothing_left(front, workers)


@pytest.mark.parametrize(
    "change",
    [
        {"config": b"{}"},
        {"config": b'{"rootfs":{"type":"layers","diff_ids":[]}}'},
        {"config": b"not JSON"},
        {"digest": "sha256:../../x"},
        {"manifest_digest": "md5:x"},
        {"layers": ()},
    ],
)
async def test_a_lying_image_worker_is_refused(front: Front, workers, change: dict[str, object]) -> None:
    workers.registry.images[BUSYBOX] = structs.replace(workers.registry.push(BUSYBOX, "a"), **change)
    with pytest.raises(CrispError):
        await pull(front)
    assert_nothing_left(front, workers)


@pytest.mark.parametrize("blob", [{"size": -1}, {"digest": "sha256:../x"}])
async def test_a_lying_layer_is_refused(front: Front, workers, blob: dict[str, object]) -> None:
    resolved = workers.registry.push(BUSYBOX, "a")
    workers.registry.images[BUSYBOX] = structs.replace(resolved, layers=(structs.replace(resolved.layers[0], **blob),))
    with pytest.raises(Corrupt):
        await pull(front)
    assert_nothing_left(front, workers)


async def test_a_moved_tag_leaves_the_older_image(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a")
    old = await pull(front)
    workers.registry.push(BUSYBOX, "b")
    new = await pull(front)
    assert (await status(front, "busybox")).image.id == new
    left = (await status(front, old)).image
    assert list(left.repo_tags) == []
    assert len(left.repo_digests) == 1


async def test_another_name_is_added(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a")
    workers.registry.push("docker.io/library/alias:1", "a")
    assert await pull(front) == await pull(front, "alias:1")
    listed = (await fakes.listed(front)).images
    assert [list(found.repo_tags) for found in listed] == [[BUSYBOX, "docker.io/library/alias:1"]]


async def test_an_image_that_is_here_is_usable_while_it_is_pulled_again(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a")
    await pull(front)
    before = len(workers.commits)
    await pull(front)
    assert workers.count("fetch") == 1
    assert [commit.begin for commit in workers.commits[before:]] == [()]


async def test_a_layer_that_vanished_is_fetched_again(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a", "b")
    await pull(front)
    workers.layers.remove(fakes.digest_of(b"diff a"))
    workers.fail["fetch"] = lambda _: Unavailable("gone")
    with pytest.raises(Unavailable):
        await pull(front)
    assert workers.layers == {fakes.digest_of(b"diff b")}
    del workers.fail["fetch"]
    await pull(front)
    assert len(workers.layers) == 2


async def test_list_filter(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a")
    await pull(front)

    async def listed(name: str) -> int:
        wanted = cri_pb2.ImageFilter(image=cri_pb2.ImageSpec(image=name))
        found = await fakes.listed(front, cri_pb2.ListImagesRequest(filter=wanted))
        return len(found.images)

    assert [await listed("busybox"), await listed("other"), await listed("BAD:")] == [1, 0, 0]


async def test_stream_in_chunks(front: Front, workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_service, "_CHUNK", 2)
    for number in range(5):
        workers.registry.push(f"docker.io/library/i{number}:latest", f"l{number}")
        await pull(front, f"i{number}")
    stream = image_service.stream_images(front, cri_pb2.StreamImagesRequest(), fakes.a_call("StreamImages"))
    parts = [cri_pb2.StreamImagesResponse.FromString(part) async for part in stream]
    assert [len(part.images) for part in parts] == [2, 2, 1]


async def test_a_list_is_made_of_what_changed(front: Front, workers) -> None:
    """Names that an image gets or loses are seen; what did not change is not made again."""
    workers.registry.push(BUSYBOX, "a")
    workers.registry.push("docker.io/library/other:latest", "b")
    other = await pull(front, "other")
    id_ = await pull(front)
    before = {one.id: front.image_items.of(one) for one in front.replica.images.values()}
    workers.registry.images["docker.io/library/moved:v1"] = workers.registry.images[BUSYBOX]
    await pull(front, "moved:v1")
    assert {one.id: list(one.repo_tags) for one in (await fakes.listed(front)).images}[id_] == [
        BUSYBOX, "docker.io/library/moved:v1",
    ]  # fmt: skip
    assert front.image_items.of(front.replica.images[other]) is before[other]


async def test_a_layer_is_unpacked_while_another_is_fetched(front: Front, workers) -> None:
    """As soon as it is here: nothing waits for all layers, nor for those below."""
    resolved = workers.registry.push(BUSYBOX, "a", "b", "c")
    gates = {blob.digest: asyncio.Event() for blob in resolved.layers}
    call = workers.call

    async def gated(method, request, **how):
        if isinstance(request, image.FetchRequest):
            await gates[request.blob.digest].wait()
        return await call(method, request, **how)

    workers.call = gated
    pulling = asyncio.get_running_loop().create_task(pull(front))
    for number, blob in enumerate(reversed(resolved.layers)):  # the uppermost first
        assert workers.count("unpack") == number
        gates[blob.digest].set()
        while workers.count("unpack") == number:
            await asyncio.sleep(0)
        assert [one.layer.blob.digest for _, one in workers.calls if isinstance(one, storage.UnpackRequest)][
            -1
        ] == blob.digest
    await pulling


async def test_remove(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a", "b")
    workers.registry.push("docker.io/library/other:latest", "a", "c")
    await pull(front)
    await pull(front, "other")
    await remove(front, "busybox")
    await remove(front, "busybox")
    assert workers.layers == {fakes.digest_of(b"diff a"), fakes.digest_of(b"diff c")}
    await remove(front, "other")
    assert_nothing_left(front, workers)
    removal = next(commit for commit in workers.commits if commit.delete_images)
    assert [intent.kind for intent in removal.begin] == [IntentKind.REMOVE_IMAGE]


async def test_an_image_in_use_stays(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a")
    id_ = await pull(front)
    user = Container(
        id=ContainerId("c" * 64),
        sandbox=SandboxId("d" * 64),
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
        await remove(front, "busybox")
    assert len(workers.layers) == 1


async def test_removal_waits_for_a_pull_that_counts_on_a_layer(front: Front, workers) -> None:
    workers.registry.push(BUSYBOX, "a")
    workers.registry.push("docker.io/library/other:latest", "a", "c")
    await pull(front)
    workers.hold["fetch"] = asyncio.Event()
    second = asyncio.get_running_loop().create_task(pull(front, "other"))
    while workers.count("fetch") < 2:
        await asyncio.sleep(0)
    await remove(front, "busybox")
    workers.hold["fetch"].set()
    await second
    assert workers.layers == {fakes.digest_of(b"diff a"), fakes.digest_of(b"diff c")}


@pytest.mark.parametrize(
    ("given", "username", "password", "identity", "bearer"),
    [
        ({}, "", "", "", ""),
        ({"username": "u", "password": "p"}, "u", "p", "", ""),
        ({"auth": "dTpwOnE="}, "u", "p:q", "", ""),
        ({"identity_token": "t"}, "", "", "t", ""),
        ({"registry_token": "t"}, "", "", "", "t"),
        ({"username": "u", "password": "p", "server_address": "https://index.docker.io/v1/"}, "u", "p", "", ""),
        ({"username": "u", "password": "p", "server_address": "quay.io"}, "", "", "", ""),
        ({"username": "u", "password": "p", "server_address": "docker.io.evil.example"}, "", "", "", ""),
    ],
)
async def test_credentials(
    front: Front, workers, given: dict[str, str], username: str, password: str, identity: str, bearer: str
) -> None:
    workers.registry.push(BUSYBOX, "a")
    await pull(front, "busybox", **given)
    requests = [
        request for _, request in workers.calls if isinstance(request, image.ResolveRequest | image.FetchRequest)
    ]
    assert len(requests) == 2
    for request in requests:
        found = request.auth
        if not (username or identity or bearer):
            assert found is None
            continue
        assert found is not None
        assert (found.username, found.password) == (username, password)
        assert (found.identity_token, found.registry_token) == (identity, bearer)


@pytest.mark.parametrize(
    "given", [{"auth": "%%%"}, {"auth": "bm9jb2xvbg=="}, {"password": "a\r\nX: y"}, {"registry_token": "x" * 70000}]
)
async def test_refused_credentials(front: Front, workers, given: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match=r"auth\.") as caught:
        await pull(front, "busybox", **given)
    assert all(value not in str(caught.value) for value in given.values())
    assert workers.calls == []


async def test_fs_info_is_from_memory(front: Front, workers) -> None:
    async def asked() -> cri_pb2.ImageFsInfoResponse:
        return await image_service.image_fs_info(front, cri_pb2.ImageFsInfoRequest(), fakes.a_call("ImageFsInfo"))

    first = await asked()
    assert first.image_filesystems[0].fs_id.mountpoint == "/i"
    assert first.container_filesystems[0].fs_id.mountpoint == "/c"
    assert first.image_filesystems[0].timestamp > 0
    workers.fail["fs_info"] = lambda _: Unavailable("storage worker is down")
    front.images.fs_info_read -= 100
    assert await asked() == first
    await front.ends.wait(("measure file systems",))
    assert await asked() == first


async def test_fs_info_knows_of_the_last_pull(front: Front, workers) -> None:
    async def used() -> int:
        reply = await image_service.image_fs_info(front, cri_pb2.ImageFsInfoRequest(), fakes.a_call("ImageFsInfo"))
        return reply.image_filesystems[0].used_bytes.value

    workers.registry.push(BUSYBOX, "a", "b")
    assert await used() == 0
    await pull(front)
    assert await used() == 2000
    await remove(front, "busybox")
    assert await used() == 0
    workers.hold["fs_info"] = asyncio.Event()
    image_service.measure_again(front)
    assert await used() == 0  # a storage worker that hangs keeps nobody waiting


async def test_load(front: Front, workers) -> None:
    resolved = workers.registry.push(BUSYBOX, "a", "b")
    second = workers.registry.push("docker.io/library/x:latest", "b", "c")
    workers.archive = (
        image.LoadedImage(names=("busybox:1",), manifest_digest=None, config=resolved.config, layers=resolved.layers),
        image.LoadedImage(names=(), manifest_digest=None, config=second.config, layers=second.layers),
    )
    reply = await node_service.load_image(front, node_pb2.LoadImageRequest(archive="x.tar"), fakes.a_call("LoadImage"))
    assert [list(found.names) for found in reply.images] == [["docker.io/library/busybox:1"], []]
    assert workers.blobs == documents(front)
    assert len(front.replica.images) == 2
    assert (await status(front, "busybox:1")).image.id == reply.images[0].id


async def test_a_bad_archive_leaves_nothing(front: Front, workers) -> None:
    resolved = workers.registry.push(BUSYBOX, "a")
    workers.archive = (
        image.LoadedImage(names=("BAD NAME",), manifest_digest=None, config=resolved.config, layers=resolved.layers),
    )
    with pytest.raises(InvalidInput):
        await node_service.load_image(front, node_pb2.LoadImageRequest(archive="x.tar"), fakes.a_call("LoadImage"))
    assert_nothing_left(front, workers)
    with pytest.raises(InvalidInput, match="file name"):
        await node_service.load_image(front, node_pb2.LoadImageRequest(archive="../x"), fakes.a_call("LoadImage"))


async def test_a_watched_pull_tells_how_far_it_is(front: Front, workers) -> None:
    resolved = workers.registry.push(BUSYBOX, "a")
    request = node_pb2.PullImageRequest(image="busybox")
    messages = [part async for part in node_service.pull_image(front, request, fakes.a_call())]
    assert messages[-1].id == fakes.digest_of(resolved.config)
    last = [layer for message in messages for layer in message.layers][-1]
    assert (last.phase, last.done, last.total) == (node_pb2.DONE, 100, 100)


async def test_a_watched_pull_that_fails(front: Front, workers) -> None:
    with pytest.raises(NotFound):
        async for _ in node_service.pull_image(front, node_pb2.PullImageRequest(image="none"), fakes.a_call()):
            pass


async def test_released_layers_of_an_unfinished_removal(front: Front, workers) -> None:
    layer = fakes.digest_of(b"diff a")
    workers.layers.add(layer)
    intent = Intent(id="sha256:" + "e" * 64, kind=IntentKind.REMOVE_IMAGE, begun_at=1, layers=(layer,))
    await front.replica.commit(Commit(begin=(intent,)), Deadline.after(1))
    await release(front, intent, Deadline.after(1))
    assert_nothing_left(front, workers)
    assert storage.REMOVE_LAYER.name in [name for name, _ in workers.calls]


@pytest.mark.parametrize("removing", [True, False])
async def test_layers_that_could_not_be_released_are_later(
    front: Front, workers, monkeypatch: pytest.MonkeyPatch, removing: bool
) -> None:
    monkeypatch.setattr("kernel.front.images.pull_flow._FIRST_PAUSE", 0.001)
    workers.registry.push(BUSYBOX, "a", "b")
    workers.fail["remove_layer"] = lambda _: Unavailable("the storage worker is away")
    if removing:
        await pull(front)
        with pytest.raises(Unavailable):
            await remove(front, "busybox")
    else:
        workers.fail["unpack"] = lambda request: (
            Corrupt("wrong") if request.layer.diff_id == fakes.digest_of(b"diff b") else None
        )
        with pytest.raises(Corrupt):
            await pull(front)
    assert front.replica.intents
    while workers.count("remove_layer") < 5:
        await asyncio.sleep(0.001)
    del workers.fail["remove_layer"]
    while front.replica.intents:
        await asyncio.sleep(0.001)
    assert workers.layers == set()


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
    workers.registry.push(BUSYBOX, "a")
    await pull(front)
    assert (await status(front, "busybox")).image.pinned is pinned
    await front.tasks.close()
