"""What the front asks the policy about, and what it does with the answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from kernel.contracts import storage
from kernel.contracts.definition import Message
from kernel.contracts.oci import ImageConfig, Signature
from kernel.contracts.records import Image
from kernel.cri.generated import cri_pb2
from kernel.errors import CrispError, FailedPrecondition, InvalidInput, Unavailable, Untrusted
from kernel.formats.reference import parse
from kernel.front.context import Front
from kernel.front.images import admission, pulls
from kernel.ids import Digest, ImageId
from tests.harness.fakes import image_workers, pod_workers
from tests.harness.fakes.image_workers import Workers, a_call

ONE, TWO = (Digest(f"sha256:{number * 64}") for number in "12")
SIGNED = (Signature(kind="simple", payload=b"one"), Signature(kind="sigstore", payload=b"two", signature=b"x"))


def record(*, tags: tuple[str, ...] = (), digests: tuple[str, ...] = (), **fields: object) -> Image:
    return Image(
        id=ImageId(ONE), tags=tags, digests=digests, layers=(), size=1, config=ImageConfig(), **fields  # type: ignore[arg-type]
    )  # fmt: skip


APP = record(
    tags=("a.example/app:v1",),
    digests=(f"a.example/app@{ONE}", f"a.example/app@{TWO}", f"b.example/other@{ONE}"),
    manifest_digests=(Digest(f"sha256:{'3' * 64}"),),
)
ALL = ("a.example/app:v1", f"a.example/app@{ONE}", f"a.example/app@{TWO}", f"b.example/other@{ONE}")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("a.example/app:v1", ("a.example/app:v1",)),
        (f"a.example/app@{TWO}", (f"a.example/app@{TWO}",)),
        (f"a.example/app:v9@{TWO}", (f"a.example/app:v9@{TWO}",)),
        ("a.example/app:v2", ALL),  # the tag is another image's by now, or always was
        ("a.example/app", ALL),
        ("evil.example/app:v1", ALL),
        (f"evil.example/app@{ONE}", ALL),
        (ONE, ALL),
        ("1" * 64, ALL),
        ("", ALL),
    ],
)
def test_an_image_is_judged_by_names_that_it_has(asked: str, expected: tuple[str, ...]) -> None:
    assert admission.names_of(APP, asked) == tuple(map(parse, expected))


def test_an_image_without_a_name_is_judged_as_one() -> None:
    assert admission.names_of(record(), "a.example/app:v1") == (None,)


def test_digests_are_those_that_the_front_has_followed() -> None:
    assert admission.digests_of(APP) == (ONE, TWO)
    assert admission.digests_of(record(manifest_digests=(ONE,))) == ()


async def test_what_the_image_worker_brings_has_its_bounds(front: Front, workers: Workers) -> None:
    workers.registry.push("a.example/app:v1", "layer")
    workers.signatures = tuple(Signature(kind="simple", payload=str(number).encode()) for number in range(1000))
    await pull(front, "a.example/app:v1")
    (request,) = judged(workers)
    assert request.signatures == workers.signatures[:128]


@pytest.fixture
def workers() -> Workers:
    return Workers()


@pytest.fixture
async def front(workers: Workers):
    made = image_workers.make_front(workers)
    yield made
    await made.tasks.close()


def refusing(why: str = "no") -> Callable[[Message], CrispError]:
    return lambda _: Untrusted(why)


async def pull(front: Front, image: str, namespace: str = "") -> str:
    pod = cri_pb2.PodSandboxConfig(metadata=cri_pb2.PodSandboxMetadata(namespace=namespace))
    request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=image), sandbox_config=pod)
    return (await pulls.pull_image(front, request, a_call())).image_ref


def judged(workers: Workers) -> list[storage.JudgeRequest]:
    return [request for name, request in workers.calls if name == "judge" and isinstance(request, storage.JudgeRequest)]


async def test_an_image_is_judged_by_digest_before_anything_of_it_is_fetched(front: Front, workers: Workers) -> None:
    resolved = workers.registry.push("a.example/app:v1", "layer")
    workers.signatures = SIGNED
    workers.fail["judge"] = refusing("it is not signed")
    with pytest.raises(Untrusted, match="it is not signed"):
        await pull(front, "a.example/app:v1", "team")
    expected = storage.JudgeRequest(
        reference="a.example/app:v1", namespace="team", digests=(resolved.manifest_digest,), signatures=SIGNED
    )
    assert judged(workers) == [expected]
    assert not workers.count("fetch")
    assert not workers.commits
    assert not front.replica.images


async def test_signatures_are_kept_with_the_image(front: Front, workers: Workers) -> None:
    workers.registry.push("a.example/app:v1", "layer")
    image = await pull(front, "a.example/app:v1")
    assert front.replica.images[ImageId(Digest(image))].signatures == ()
    workers.signatures = SIGNED
    await pull(front, "a.example/app:v1")
    assert front.replica.images[ImageId(Digest(image))].signatures == SIGNED
    workers.signatures = ()
    await pull(front, "a.example/app:v1")
    assert front.replica.images[ImageId(Digest(image))].signatures == SIGNED


async def test_an_image_that_is_here_is_judged_at_each_pull(front: Front, workers: Workers) -> None:
    workers.registry.push("a.example/app:v1", "layer")
    await pull(front, "a.example/app:v1", "one")
    workers.fail["judge"] = refusing()
    with pytest.raises(Untrusted):
        await pull(front, "a.example/app:v1", "two")
    assert [request.namespace for request in judged(workers)] == ["one", "two"]


async def test_two_namespaces_never_share_a_verdict(front: Front, workers: Workers) -> None:
    workers.registry.push("a.example/app:v1", "layer")
    workers.fail["judge"] = lambda request: (
        Untrusted("no") if isinstance(request, storage.JudgeRequest) and request.namespace == "strict" else None
    )
    strict, loose = await asyncio.gather(
        pull(front, "a.example/app:v1", "strict"), pull(front, "a.example/app:v1", "loose"), return_exceptions=True
    )
    assert isinstance(strict, Untrusted)
    assert isinstance(loose, str)


async def test_signatures_that_cannot_be_had_matter_only_where_they_are_asked_for(
    front: Front, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    workers.registry.push("a.example/app:v1", "layer")
    workers.fail["signatures"] = lambda _: Unavailable("the store is away")
    with caplog.at_level(logging.WARNING):
        await pull(front, "a.example/app:v1")
    assert "accepted without its signatures: the store is away" in caplog.text
    workers.fail["judge"] = refusing("it is not signed")
    with pytest.raises(Unavailable, match="it is not signed; its signatures: the store is away"):
        await pull(front, "a.example/app:v1")
    workers.fail["signatures"] = lambda _: FailedPrecondition("more signatures than crisp looks at")
    with pytest.raises(Untrusted, match="more signatures than crisp looks at"):
        await pull(front, "a.example/app:v1")
    workers.fail["signatures"] = lambda _: InvalidInput("x")
    with pytest.raises(Untrusted):
        await pull(front, "a.example/app:v1")


async def test_a_container_is_judged_when_it_is_made() -> None:
    host = pod_workers.Host()
    front = pod_workers.make_front(host)
    pod_workers.watch(front)
    try:
        pod = await pod_workers.run(front)
        host.fail["judge"] = [Untrusted("the policy has changed")]
        with pytest.raises(Untrusted, match="the policy has changed"):
            await pod_workers.create(front, pod)
        assert "mount" not in host.calls
        assert (host.mounts, host.containers, host.disk.containers, host.disk.intents) == (set(), {}, {}, {})
        assert await pod_workers.create(front, pod) in host.containers
    finally:
        await front.tasks.close()


async def test_one_accepted_name_of_an_image_is_enough(front: Front, workers: Workers) -> None:
    accepted = f"b.example/other@{ONE}"
    workers.fail["judge"] = lambda request: (
        None if isinstance(request, storage.JudgeRequest) and request.reference == accepted else Untrusted("no")
    )
    deadline = a_call().deadline
    await admission.at_create(front, APP, ONE, "team", deadline)
    assert [request.reference for request in judged(workers)] == list(ALL)
    assert {request.digests for request in judged(workers)} == {(ONE, TWO)}
    with pytest.raises(Untrusted):
        await admission.at_create(front, APP, "a.example/app:v1", "team", deadline)
    workers.calls.clear()
    with pytest.raises(Untrusted):
        await admission.at_create(front, record(), ONE, "", deadline)
    assert [request.reference for request in judged(workers)] == [""]
