"""What a pull records, and what it leaves if one of its steps fails."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from kernel.config.sections import Config, ImageSection
from kernel.contracts import image, storage
from kernel.contracts.records import IntentKind
from kernel.errors import Corrupt, CrispError, Unavailable
from kernel.front.context import Front
from kernel.front.images import layer_release, make_image
from kernel.host.aio import Deadline
from kernel.ids import DiffId, Digest, ImageId
from tests.harness.fakes import image_workers as fakes


async def test_the_intent_comes_first_and_ends_with_the_record(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a")
    await fakes.pull(front)
    begin, end = workers.commits
    assert [intent.kind for intent in begin.begin] == [IntentKind.PULL_IMAGE]
    assert begin.begin[0].layers == tuple(workers.layers)
    assert end.end == (begin.begin[0].id,)
    assert len(end.put_images) == 1
    names = [name for name, _ in workers.calls]
    assert names.index("commit") < names.index("fetch") < names.index("unpack") < names.index("drop")


async def test_documents_stay_with_the_image(front: Front, workers) -> None:
    one = workers.registry.push(fakes.BUSYBOX, "a", "b")
    id_ = ImageId(Digest(await fakes.pull(front)))
    assert workers.blobs == set(front.replica.images[id_].blobs) == {id_, one.manifest_digest}
    other = await fakes.pull(front, f"docker.io/library/busybox@{one.manifest_digest}")
    assert (other, len(front.replica.images[id_].blobs)) == (id_, 2)
    await fakes.remove(front, "busybox")
    fakes.assert_nothing_left(front, workers)


async def test_compressed_layers_stay_where_the_configuration_keeps_them(front: Front, workers) -> None:
    front.config = Config(image=ImageSection(registries_conf="/none", keep_blobs=True))
    a, b, c = (fakes.digest_of(f"blob {name}".encode()) for name in "abc")
    workers.registry.push(fakes.BUSYBOX, "a", "b")
    workers.registry.push("docker.io/library/other:latest", "b", "c")
    id_ = ImageId(Digest(await fakes.pull(front)))
    assert {a, b} < workers.blobs == set(front.replica.images[id_].blobs)
    await fakes.pull(front, "other")
    await fakes.remove(front, "busybox")
    assert workers.blobs & {a, b, c} == {b, c}  # the other image has the shared one
    await fakes.remove(front, "other")
    fakes.assert_nothing_left(front, workers)


async def test_layers_that_are_there_are_not_fetched(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a", "b")
    workers.registry.push("docker.io/library/other:latest", "a", "c")
    await fakes.pull(front, "busybox")
    await fakes.pull(front, "other")
    assert workers.count("fetch") == 3
    assert len(workers.layers) == 3


async def test_two_pulls_at_once_share_a_layer(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a", "b")
    workers.registry.push("docker.io/library/other:latest", "a", "c")
    await asyncio.gather(fakes.pull(front, "busybox"), fakes.pull(front, "other"))
    assert workers.count("fetch") == 3
    assert workers.blobs == fakes.documents(front)


async def test_a_repeated_layer_is_one(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a", "b", "a")
    id_ = await fakes.pull(front)
    assert [layer.diff_id for layer in front.replica.images[ImageId(id_)].layers] == [
        fakes.digest_of(b"diff b"),
        fakes.digest_of(b"diff a"),
    ]


@pytest.mark.parametrize("method", ["fetch", "unpack", "drop", "layers"])
async def test_a_failing_step_leaves_nothing(front: Front, workers, method: str) -> None:
    workers.registry.push(fakes.BUSYBOX, "a", "b", "c")
    failures = iter([None, Corrupt("registry example.com: connection reset")])
    workers.fail[method] = lambda _: next(failures, None)
    if method == "layers":
        workers.fail[method] = lambda _: Corrupt("registry example.com: connection reset")
    with pytest.raises(Corrupt, match=r"example\.com"):
        await fakes.pull(front)
    fakes.assert_nothing_left(front, workers)
    del workers.fail[method]
    await fakes.pull(front)


async def test_what_has_come_stays_for_a_while_where_a_registry_was_away(
    front: Front, workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet asks again: layers that are unpacked are not fetched twice, blobs that are here are put aside."""
    resolved = workers.registry.push(fakes.BUSYBOX, "a", "b")
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
            await fakes.pull(front)
        assert workers.layers == {fakes.digest_of(b"diff a")}
    assert [one.aside for _, one in workers.calls if isinstance(one, image.DropRequest)] == [False, True, True]
    del workers.fail["fetch"]
    await fakes.pull(front)
    assert workers.count("fetch") == 4  # of the first layer only once
    assert front.replica.intents == {}
    await fakes.remove(front, "busybox")
    workers.fail["fetch"] = away
    monkeypatch.setattr(make_image, "REPEATED_SECONDS", 0.0)
    with pytest.raises(Unavailable):
        await fakes.pull(front)
    while front.replica.intents:  # nobody asked again
        await asyncio.sleep(0.001)
    fakes.assert_nothing_left(front, workers)


async def test_a_failing_pull_keeps_what_others_have(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a", "b")
    workers.registry.push("docker.io/library/other:latest", "a", "c")
    await fakes.pull(front)
    workers.fail["unpack"] = lambda _: Corrupt("it does not give its diff id")
    with pytest.raises(Corrupt, match=r"layer sha256:.* of image docker.io/library/other:latest"):
        await fakes.pull(front, "other")
    assert workers.layers == {fakes.digest_of(b"diff a"), fakes.digest_of(b"diff b")}
    assert workers.blobs == fakes.documents(front)
    assert (await fakes.status(front, "busybox")).image.id


async def test_a_failing_pull_keeps_what_another_pull_counts_on(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a", "b")
    workers.registry.push("docker.io/library/other:latest", "a", "c")
    lie = fakes.digest_of(b"diff c")
    workers.fail["unpack"] = lambda request: Corrupt("no") if request.layer.diff_id == lie else None
    good, bad = await asyncio.gather(fakes.pull(front), fakes.pull(front, "other"), return_exceptions=True)
    assert isinstance(good, str)
    assert isinstance(bad, Corrupt)
    assert workers.layers == {fakes.digest_of(b"diff a"), fakes.digest_of(b"diff b")}


async def test_where_undoing_fails_the_intent_stays(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a")
    workers.fail["fetch"] = lambda _: Unavailable("gone")
    workers.fail["remove_layer"] = lambda _: Unavailable("storage worker is down")
    with pytest.raises(Unavailable, match="gone"):
        await fakes.pull(front)
    (intent,) = front.replica.intents.values()
    del workers.fail["remove_layer"]
    await layer_release.release(front, intent, Deadline.after(5))
    fakes.assert_nothing_left(front, workers)


@pytest.mark.parametrize("blob", [{"size": -1}, {"digest": "sha256:../x"}])
async def test_a_lying_layer_is_refused(front: Front, workers, blob: dict[str, object]) -> None:
    resolved = workers.registry.push(fakes.BUSYBOX, "a")
    workers.registry.images[fakes.BUSYBOX] = structs.replace(
        resolved, layers=(structs.replace(resolved.layers[0], **blob),)
    )
    with pytest.raises(Corrupt):
        await fakes.pull(front)
    fakes.assert_nothing_left(front, workers)


async def test_an_image_that_is_here_is_usable_while_it_is_pulled_again(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a")
    await fakes.pull(front)
    before = len(workers.commits)
    await fakes.pull(front)
    assert workers.count("fetch") == 1
    assert [commit.begin for commit in workers.commits[before:]] == [()]


async def test_a_layer_that_vanished_is_fetched_again(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a", "b")
    await fakes.pull(front)
    workers.layers.remove(fakes.digest_of(b"diff a"))
    workers.fail["fetch"] = lambda _: Unavailable("gone")
    with pytest.raises(Unavailable):
        await fakes.pull(front)
    assert workers.layers == {fakes.digest_of(b"diff b")}
    del workers.fail["fetch"]
    await fakes.pull(front)
    assert len(workers.layers) == 2


async def test_a_layer_is_unpacked_while_another_is_fetched(front: Front, workers) -> None:
    """As soon as it is here: nothing waits for all layers, nor for those below."""
    resolved = workers.registry.push(fakes.BUSYBOX, "a", "b", "c")
    gates = {blob.digest: asyncio.Event() for blob in resolved.layers}
    call = workers.call

    async def gated(method, request, **how):
        if isinstance(request, image.FetchRequest):
            await gates[request.blob.digest].wait()
        return await call(method, request, **how)

    workers.call = gated
    pulling = asyncio.get_running_loop().create_task(fakes.pull(front))
    for number, blob in enumerate(reversed(resolved.layers)):  # the uppermost first
        assert workers.count("unpack") == number
        gates[blob.digest].set()
        while workers.count("unpack") == number:
            await asyncio.sleep(0)
        assert [one.layer.blob.digest for _, one in workers.calls if isinstance(one, storage.UnpackRequest)][
            -1
        ] == blob.digest
    await pulling


async def test_a_bug_in_one_layer_is_not_hidden_by_the_failure_of_another(front: Front, workers) -> None:
    async def fails() -> tuple[DiffId, int]:
        raise Corrupt("wrong")

    async def has_a_bug() -> tuple[DiffId, int]:
        raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        await make_image._side_by_side([fails(), has_a_bug()])
