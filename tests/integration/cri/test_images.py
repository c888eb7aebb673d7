"""Pull, list, status, remove; what a registry can do wrong."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from deploy.demo_image import Image, Layer, image
from kernel.cri.generated import cri_pb2 as pb
from tests.harness.cri import INVALID, NOT_FOUND, Cri, Pod, outcome, refused
from tests.harness.daemon import Daemon
from tests.harness.registry import Registry

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def small(word: str) -> Image:
    """An image of one small file, which nobody else has."""
    layer = Layer()
    layer.file("word", word.encode())
    return image([layer.tar()], {"Cmd": ["/word"]})


def pinned(daemon: Daemon) -> list[Path]:
    """Everything that images leave on disk."""
    folders = (daemon.root / "image" / "blobs", daemon.root / "storage" / "layers")
    return sorted(path for folder in folders if folder.exists() for path in folder.rglob("*") if not path.is_dir())


def test_an_image_is_pulled_by_tag_and_by_digest(cri: Cri, registry: Registry) -> None:
    built = small("both")
    by_digest = registry.push(built, "both", "v1")
    by_tag = f"{registry.address}/both:v1"
    assert cri.image(by_tag) is None
    reference = cri.pull(by_tag)
    assert reference in (built.id, by_digest)
    status = cri.image(by_tag)
    assert status.id == built.id
    assert list(status.repo_tags) == [by_tag]
    assert list(status.repo_digests) == [by_digest]
    assert status.size > 0
    assert cri.pull(by_digest) == reference
    for name in (by_tag, by_digest, built.id, reference, built.id.removeprefix("sha256:")):
        assert cri.image(name).id == built.id, name
    assert [one.id for one in cri.list_images() if by_tag in one.repo_tags] == [built.id]


def test_list_filters_by_reference(cri: Cri, registry: Registry) -> None:
    built = small("filter")
    registry.push(built, "filter", "v1")
    cri.pull(f"{registry.address}/filter:v1")
    spec = pb.ImageSpec(image=f"{registry.address}/filter:v1")
    assert [one.id for one in cri.call("ListImages", filter=pb.ImageFilter(image=spec)).images] == [built.id]
    other = pb.ImageSpec(image=f"{registry.address}/filter:v2")
    assert not cri.call("ListImages", filter=pb.ImageFilter(image=other)).images


def test_a_tag_that_moved_is_taken_from_the_old_image(cri: Cri, registry: Registry) -> None:
    old, new = small("old"), small("new")
    name = f"{registry.address}/moved:v1"
    registry.push(old, "moved", "v1")
    cri.pull(name)
    registry.push(new, "moved", "v1")
    cri.pull(name)
    assert cri.image(name).id == new.id
    assert not cri.image(old.id).repo_tags


def test_a_removed_image_is_gone_from_disk(cri: Cri, registry: Registry, daemon: Daemon, busybox_ref: str) -> None:
    before = pinned(daemon)
    name = f"{registry.address}/gone:v1"
    registry.push(small("gone"), "gone", "v1")
    cri.pull(name)
    assert pinned(daemon) != before
    cri.remove_image(name)
    assert cri.image(name) is None
    assert pinned(daemon) == before
    cri.remove_image(name)  # gone already


def test_an_image_in_use_stays_usable(pods, cri: Cri, busybox_ref: str, registry: Registry, busybox: Image) -> None:
    pod: Pod = pods()
    container = pod.shell("sleep 600")
    # The peers differ: some refuse, some take the name away and keep the layers.
    said = outcome(lambda: cri.remove_image(busybox_ref))
    assert said is None or said.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert cri.output(container, "cat", "/home/web/hello") == "hello\n"
    cri.pull(busybox_ref)


def test_docker_schema_2_is_read(cri: Cri, registry: Registry) -> None:
    built = small("docker")
    manifest = json.loads(built.manifest)
    manifest["mediaType"] = DOCKER_MANIFEST
    manifest["config"]["mediaType"] = DOCKER_CONFIG
    for layer in manifest["layers"]:
        layer["mediaType"] = DOCKER_LAYER
    as_docker = Image(
        manifest=json.dumps(manifest).encode(), config=built.config, layers=built.layers, media_type=DOCKER_MANIFEST
    )
    registry.push(as_docker, "docker", "v2s2")
    cri.pull(f"{registry.address}/docker:v2s2")
    assert cri.image(f"{registry.address}/docker:v2s2").id == built.id


def test_an_index_gives_the_image_of_this_platform(cri: Cri, registry: Registry) -> None:
    right, wrong = small("right"), small("wrong")
    here = json.loads(right.config)["architecture"]
    by_digest = registry.push_index({"s390x": wrong, here: right, "arm/v7": wrong}, "index", "v1")
    cri.pull(f"{registry.address}/index:v1")
    assert cri.image(f"{registry.address}/index:v1").id == right.id
    assert by_digest in cri.image(right.id).repo_digests


def test_an_index_without_this_platform_is_told(cri: Cri, registry: Registry) -> None:
    registry.push_index({"s390x": small("s390x")}, "index", "foreign")
    with refused(grpc.StatusCode.FAILED_PRECONDITION, registry.address):
        cri.pull(f"{registry.address}/index:foreign")


def test_layers_are_shared_between_images(cri: Cri, registry: Registry, daemon: Daemon) -> None:
    shared, own = Layer(), Layer()
    shared.file("shared", b"in both")
    own.file("own", b"in one")
    shared_tar, own_tar = shared.tar(), own.tar()
    registry.push(image([shared_tar]), "share", "a")
    registry.push(image([shared_tar, own_tar]), "share", "b")
    cri.pull(f"{registry.address}/share:a")
    before = len(list((daemon.root / "storage" / "layers").iterdir()))
    cri.pull(f"{registry.address}/share:b")
    assert len(list((daemon.root / "storage" / "layers").iterdir())) == before + 1
    cri.remove_image(f"{registry.address}/share:a")
    assert len(list((daemon.root / "storage" / "layers").iterdir())) == before + 1


def test_whiteouts_opaque_folders_and_hard_links_are_right(pods, cri: Cri, registry: Registry, busybox: Image) -> None:
    from deploy.demo_image import busybox_layer

    base = busybox_layer()
    for name in ("gone", "kept", "hidden/old", "links/first"):
        base.file(f"data/{name}", name.encode())
    base.hardlink("data/links/second", "data/links/first")
    upper = Layer()
    upper.file("data/.wh.gone", b"")
    upper.folder("data/hidden")
    upper.file("data/hidden/.wh..wh..opq", b"")
    upper.file("data/hidden/new", b"new", mode=0o4750, uid=12, gid=34)
    registry.push(image([base.tar(), upper.tar()], {"Env": ["PATH=/bin"]}), "layers", "v1")
    reference = f"{registry.address}/layers:v1"
    cri.pull(reference)
    pod = pods()
    pod.image = reference
    _, log = pod.result("cd /data; find . -type f | sort; stat -c %a:%u:%g hidden/new; stat -c %h links/first")
    assert [text for _, text in log] == [
        "./hidden/new", "./kept", "./links/first", "./links/second", "4750:12:34", "2",
    ]  # fmt: skip


def test_image_file_systems_are_measured(cri: Cri, daemon: Daemon, busybox_ref: str) -> None:
    info = cri.call("ImageFsInfo")
    (images,) = info.image_filesystems
    assert images.used_bytes.value > 1_000_000
    assert images.inodes_used.value > 10
    assert images.fs_id.mountpoint.startswith(str(daemon.root))
    assert images.timestamp
    assert info.container_filesystems


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory, daemon: Daemon) -> Iterator[Registry]:
    """A registry over TLS that wants a name and a password."""
    folder = Path(tempfile.mkdtemp(prefix="ctreg-", dir="/tmp"))
    served = Registry(folder, login=("nobody", "canary-4711"), tls=True)
    try:
        served.start()
        served.push(small("private"), "private", "v1")
        trusted = daemon.containers / "certs.d" / served.address
        trusted.mkdir(parents=True)
        shutil.copy(served.certificate, trusted / "ca.crt")
        yield served
    finally:
        served.stop()
        shutil.rmtree(folder)


def test_credentials_of_the_request_open_a_registry_with_tls(cri: Cri, private: Registry, daemon: Daemon) -> None:
    name = f"{private.address}/private:v1"
    with refused(grpc.StatusCode.UNAUTHENTICATED, private.address):
        cri.pull(name)
    with refused(grpc.StatusCode.UNAUTHENTICATED, private.address):
        cri.pull(name, auth=pb.AuthConfig(username="nobody", password="wrong"))
    assert cri.image(name) is None
    cri.pull(name, auth=pb.AuthConfig(username="nobody", password="canary-4711"))
    assert cri.image(name) is not None
    assert "canary-4711" not in daemon.log.read_text()


def test_what_a_registry_does_not_have_is_not_found(cri: Cri, registry: Registry) -> None:
    with refused(NOT_FOUND, registry.address):
        cri.pull(f"{registry.address}/busybox:no-such-tag")
    with refused(NOT_FOUND, registry.address):
        cri.pull(f"{registry.address}/no-such-repository:latest")


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-7], lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:]],
    ids=["truncated", "altered"],
)  # fmt: skip
def test_a_registry_that_gives_wrong_bytes_is_named_and_nothing_is_kept(
    cri: Cri, registry: Registry, daemon: Daemon, damage, request: pytest.FixtureRequest
) -> None:
    built = small(f"damaged {request.node.callspec.id}")
    repository = f"damaged-{request.node.callspec.id}"
    registry.push(built, repository, "v1")
    before = pinned(daemon)
    blob = registry.blob_file(json.loads(built.manifest)["layers"][0]["digest"])
    blob.write_bytes(damage(blob.read_bytes()))
    with pytest.raises(grpc.RpcError) as caught:
        cri.pull(f"{registry.address}/{repository}:v1")
    assert caught.value.code() in (grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNAVAILABLE)
    assert registry.address in caught.value.details()
    assert cri.image(f"{registry.address}/{repository}:v1") is None
    assert pinned(daemon) == before


def test_a_registry_that_refuses_the_connection_is_named(cri: Cri) -> None:
    with refused(grpc.StatusCode.UNAVAILABLE, "127.0.0.1:1"):
        cri.pull("127.0.0.1:1/any:v1")


def test_a_registry_that_stalls_ends_with_the_callers_deadline(cri: Cri) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(grpc.RpcError) as caught:
            cri.pull(f"{address}/any:v1", limit=2)
        assert caught.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
        assert cri.image(f"{address}/any:v1") is None


@pytest.mark.parametrize(
    "reference", ["", "x/UPPER:y", "a b", "x@sha256:123", "x:tag:tag", "http://x/y", "../x", "x" * 300]
)
def test_a_malformed_reference_is_refused(cri: Cri, reference: str) -> None:
    with refused(INVALID, "image"):
        cri.pull(reference)


def test_equal_pulls_at_once_all_succeed(cri: Cri, registry: Registry) -> None:
    built = small("at once")
    registry.push(built, "once", "v1")
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(cri.pull(f"{registry.address}/once:v1"))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 6
    assert len(set(answers)) == 1
