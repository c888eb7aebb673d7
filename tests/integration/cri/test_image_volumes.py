"""Images as volumes: read-only, whole or in part, counted as in use, alive over restarts."""

from __future__ import annotations

import grpc
import pytest

from deploy.demo_image import Layer, image
from kernel.cri.generated import cri_pb2 as pb
from tests.harness import host
from tests.harness.cri import INVALID, NOT_FOUND, Cri, Pod, pod_config, refused
from tests.harness.daemon import Daemon


@pytest.fixture(scope="module")
def data_ref(daemon: Daemon, registry) -> str:
    """An image of two layers with nothing to run in it."""
    lower, upper = Layer(), Layer()
    lower.folder("models")
    lower.file("models/old", b"old\n")
    lower.file("both", b"lower\n")
    lower.file("run", b"#!/bin/sh\necho ran\n", mode=0o755)
    upper.file("both", b"upper\n")
    upper.file("models/.wh.old", b"")
    upper.file("models/new", b"new\n")
    upper.symlink("inside", "/models")
    upper.symlink("outside", "/../../../../etc")
    registry.push(image([lower.tar(), upper.tar()], {}), "data", "v1")
    reference = f"{registry.address}/data:v1"
    daemon.cri.pull(reference)
    return reference


def volume(reference: str, path: str = "/vol", **fields) -> pb.Mount:
    return pb.Mount(**{"container_path": path, "readonly": True, "image": pb.ImageSpec(image=reference), **fields})


@pytest.mark.parametrize("handler", ["runc", "crun"])
def test_an_image_is_seen_and_not_written(pods, daemon: Daemon, cri: Cri, data_ref: str, handler: str) -> None:
    pod = pods(pod_config(daemon.logs), handler)
    container = pod.shell("sleep 600", mounts=[volume(data_ref), volume(data_ref, "/again")])
    assert cri.output(container, "cat", "/vol/both", "/again/both") == "upper\nupper\n"
    assert cri.output(container, "ls", "/vol/models") == "new\n"
    assert cri.output(container, "/vol/run") == "ran\n"
    assert cri.exec(container, "touch", "/vol/x").exit_code != 0
    assert cri.exec(container, "rm", "/vol/both").exit_code != 0
    mounts = cri.container(container).mounts
    image_id = cri.image(data_ref).id
    assert [mount.image.image_ref for mount in mounts] == [image_id, image_id]
    assert mounts[0].image.image == data_ref
    cri.remove(container)


def test_a_part_of_an_image(pod: Pod, cri: Cri, data_ref: str) -> None:
    container = pod.shell(
        "sleep 600",
        mounts=[
            volume(data_ref, "/part", image_sub_path="models"),
            volume(data_ref, "/file", image_sub_path="models/new"),
            volume(data_ref, "/link", image_sub_path="inside", mount_options=["noexec"]),
        ],
    )
    assert cri.output(container, "cat", "/part/new", "/file", "/link/new") == "new\n" * 3
    assert cri.exec(container, "touch", "/part/x").exit_code != 0
    cri.remove(container)


@pytest.mark.parametrize("path", ["../..", "models/../..", "/models", "absent", "outside", "outside/passwd", "both/x"])
def test_a_part_that_is_not_inside_is_refused(pod: Pod, daemon: Daemon, data_ref: str, path: str) -> None:
    before = daemon.leaks()
    with refused(INVALID, "mounts[0].image_sub_path"):
        pod.create("true", mounts=[volume(data_ref, image_sub_path=path)])
    assert daemon.leaks() == before


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("readonly", {"readonly": False}),
        ("host_path", {"host_path": "/tmp"}),
        ("propagation", {"propagation": pb.PROPAGATION_BIDIRECTIONAL}),
        ("container_path", {"container_path": "/proc"}),
    ],
)
def test_what_does_not_go_with_an_image_is_refused(pod: Pod, data_ref: str, field: str, fields) -> None:
    with refused(INVALID, f"mounts[0].{field}"):
        pod.create("true", mounts=[volume(data_ref, **fields)])


def test_an_image_that_is_not_here_is_not_found(pod: Pod, daemon: Daemon) -> None:
    before = daemon.leaks()
    with refused(NOT_FOUND, "mounts[0].image", "localhost/never-pulled:v1"):
        pod.create("true", mounts=[volume("localhost/never-pulled:v1")])
    assert daemon.leaks() == before


def test_an_image_in_use_is_kept(pod: Pod, cri: Cri, registry) -> None:
    layer = Layer()
    layer.file("file", b"kept\n")
    registry.push(image([layer.tar()], {}), "kept", "v1")
    reference = f"{registry.address}/kept:v1"
    cri.pull(reference)
    container = pod.shell("sleep 600", mounts=[volume(reference)])
    with refused(grpc.StatusCode.FAILED_PRECONDITION, container):
        cri.remove_image(reference)
    assert cri.output(container, "cat", "/vol/file") == "kept\n"
    cri.remove(container)
    cri.remove_image(reference)
    assert cri.image(reference) is None


def test_a_volume_outlives_crisp(pod: Pod, cri: Cri, daemon: Daemon, data_ref: str) -> None:
    container = pod.shell("sleep 600", mounts=[volume(data_ref)])
    waiting = pod.create("cat", "/vol/both", mounts=[volume(data_ref)])
    daemon.kill_all()
    daemon.start()
    assert cri.output(container, "cat", "/vol/both") == "upper\n"
    assert cri.container(container).mounts[0].image.image_ref == cri.image(data_ref).id
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        cri.remove_image(data_ref)
    cri.start(waiting)
    assert cri.wait_exit(waiting).exit_code == 0
    for one in (container, waiting):
        cri.remove(one)
    assert not [point for point in host.mounts(daemon.folder) if "/volumes/" in point]
