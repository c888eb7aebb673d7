"""Pulls from image workers that fail and lie: what is asked for, and what is believed."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from kernel.contracts import image
from kernel.cri.generated import cri_pb2
from kernel.errors import Corrupt, CrispError, FailedPrecondition, InvalidInput, NotFound, Unavailable
from kernel.front.context import Front
from kernel.front.images import pulls
from tests.harness.fakes import image_workers as fakes


async def test_a_short_name_is_tried_at_one_registry_after_the_other(workers, tmp_path: Path) -> None:
    conf = tmp_path / "registries.conf"
    front = fakes.make_front(workers, registries_conf=str(conf))
    conf.write_text('unqualified-search-registries = ["one.example", "two.example"]\n')
    with pytest.raises(NotFound, match=r"one\.example/app:v1 is at no registry; two\.example/app:v1 is"):
        await fakes.pull(front, "app:v1")
    workers.registry.push("two.example/app:v1", "a")
    workers.fail[image.RESOLVE.name] = lambda asked: (
        Unavailable("it is away") if asked.reference.startswith("one.") else None
    )
    two = await fakes.pull(front, "app:v1")
    assert (
        (await fakes.status(front, "app:v1")).image.id
        == (await fakes.status(front, "two.example/app:v1")).image.id
        == two
    )
    assert not (await fakes.status(front, "docker.io/library/app:v1")).HasField("image")
    workers.fail.clear()
    one = workers.registry.push("one.example/app:v1", "b")
    await fakes.pull(front, "one.example/app:v1")
    assert (await fakes.status(front, "app:v1")).image.id == fakes.digest_of(one.config)  # as a pull would find it
    conf.write_text('[aliases]\napp = "two.example/app"\n')  # from now on, with no restart
    assert (await fakes.status(front, "app:v1")).image.id == two
    assert await fakes.pull(front, "app:v1") == two
    conf.write_text('short-name-mode = "enforcing"\nunqualified-search-registries = ["one.example", "two.example"]\n')
    with pytest.raises(FailedPrecondition, match="enforcing"):
        await fakes.pull(front, "app:v1")
    await fakes.remove(front, "app:v1")
    assert not (await fakes.status(front, "one.example/app:v1")).HasField("image")
    await front.tasks.close()


async def test_credentials_without_a_server_are_not_sent_to_what_a_short_name_may_mean(workers, tmp_path: Path) -> None:
    """The kubelet finds them for docker.io."""
    conf = tmp_path / "registries.conf"
    conf.write_text('unqualified-search-registries = ["one.example", "docker.io"]\n')
    front = fakes.make_front(workers, registries_conf=str(conf))
    workers.registry.push(fakes.BUSYBOX, "a")
    await fakes.pull(front, "busybox", username="ann", password="secret")
    asked = [request for _, request in workers.calls if isinstance(request, image.ResolveRequest)]
    assert [(one.reference.partition("/")[0], one.auth is not None) for one in asked] == [
        ("one.example", False), ("docker.io", True),
    ]  # fmt: skip
    workers.calls.clear()
    await fakes.pull(front, "busybox", username="ann", password="secret", server_address="https://one.example")
    asked = [request for _, request in workers.calls if isinstance(request, image.ResolveRequest)]
    assert [one.auth is not None for one in asked] == [True, False]
    await front.tasks.close()


async def test_the_pods_namespace_goes_to_the_image_worker(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a")
    pod = cri_pb2.PodSandboxConfig(metadata=cri_pb2.PodSandboxMetadata(namespace="team-a"))
    request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image="busybox"), sandbox_config=pod)
    await pulls.pull_image(front, request, fakes.a_call())
    asked = [one for _, one in workers.calls if isinstance(one, image.ResolveRequest | image.FetchRequest)]
    assert [one.namespace for one in asked] == ["team-a", "team-a"]
    request.sandbox_config.metadata.namespace = "../x"
    with pytest.raises(InvalidInput, match=r"sandbox_config\.metadata\.namespace"):
        await pulls.pull_image(front, request, fakes.a_call())


async def test_a_lying_answer_to_a_digest(front: Front, workers) -> None:
    honest = workers.registry.push(fakes.BUSYBOX, "a")
    name = f"docker.io/library/busybox@{honest.digest}"
    workers.registry.images[name] = structs.replace(
        honest, digest=fakes.digest_of(b"x"), manifest_digest=fakes.digest_of(b"y")
    )
    with pytest.raises(Corrupt, match="what came has digest"):
        await fakes.pull(front, name)
    fakes.assert_nothing_left(front, workers)


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
    workers.registry.images[fakes.BUSYBOX] = structs.replace(workers.registry.push(fakes.BUSYBOX, "a"), **change)
    with pytest.raises(CrispError):
        await fakes.pull(front)
    fakes.assert_nothing_left(front, workers)


async def test_a_moved_tag_leaves_the_older_image(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a")
    old = await fakes.pull(front)
    workers.registry.push(fakes.BUSYBOX, "b")
    new = await fakes.pull(front)
    assert (await fakes.status(front, "busybox")).image.id == new
    left = (await fakes.status(front, old)).image
    assert list(left.repo_tags) == []
    assert len(left.repo_digests) == 1


async def test_another_name_is_added(front: Front, workers) -> None:
    workers.registry.push(fakes.BUSYBOX, "a")
    workers.registry.push("docker.io/library/alias:1", "a")
    assert await fakes.pull(front) == await fakes.pull(front, "alias:1")
    listed = (await fakes.listed(front)).images
    assert [list(found.repo_tags) for found in listed] == [[fakes.BUSYBOX, "docker.io/library/alias:1"]]


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
    workers.registry.push(fakes.BUSYBOX, "a")
    await fakes.pull(front, "busybox", **given)
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
        await fakes.pull(front, "busybox", **given)
    assert all(value not in str(caught.value) for value in given.values())
    assert workers.calls == []
