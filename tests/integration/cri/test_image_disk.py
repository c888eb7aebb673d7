"""Images on a small disk of their own: both file systems are told, and a full one costs a pull and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from deploy.demo_image import Layer, busybox_layer, image
from tests.harness import host
from tests.harness.cri import Pod, refused
from tests.harness.daemon import Daemon, serving
from tests.harness.registry import Registry
from tests.integration.conftest import insecure
from tests.integration.storage.disk import Disk, small_disk


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    with small_disk(tmp_path_factory.mktemp("images"), 64) as made:
        yield made


@pytest.fixture(scope="module")
def daemon(system_users: None, registry: Registry, disk: Disk) -> Iterator[Daemon]:
    mine = Daemon(insecure(registry.address), storage={"image_store": str(disk.mounted / "store")})
    with serving(mine):
        yield mine


def test_both_file_systems_are_told(daemon: Daemon, disk: Disk, registry: Registry) -> None:
    cri, name = daemon.cri, f"{registry.address}/busybox:latest"
    cri.pull(name)
    info = cri.call("ImageFsInfo")
    images, containers = info.image_filesystems[0].fs_id.mountpoint, info.container_filesystems[0].fs_id.mountpoint
    assert images == str(disk.mounted / "store" / "layers")
    assert os.stat(images).st_dev != os.stat(containers).st_dev
    pod = Pod(cri, daemon.logs, name)
    assert pod.result("echo works > /file; cat /file")[1] == [("stdout", "works")]
    assert "overlay" in json.loads(cri.status(verbose=True).info["storage"])["driver"]
    pod.remove()


def test_a_disk_that_fills_up_costs_the_pull_and_nothing_else(daemon: Daemon, disk: Disk, registry: Registry) -> None:
    cri = daemon.cri
    kept = f"{registry.address}/busybox:latest"
    cri.pull(kept)
    pod = Pod(cri, daemon.logs, kept)
    running = pod.shell("sleep 600")
    large = Layer()
    for number in range(12):
        large.file(f"f{number}", bytes(8 << 20))
    registry.push(image([busybox_layer().tar(), large.tar()], {}), "large", "v1")
    before = disk.used()
    blobs = sorted(path.name for path in Path(daemon.root / "image" / "blobs").rglob("*"))
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "No space left", "large"):
        cri.pull(f"{registry.address}/large:v1", limit=120)
    host.until("the disk is as before", lambda: abs(disk.used()[0] - before[0]) < 64, 10)
    assert abs(disk.used()[1] - before[1]) <= 1
    assert sorted(path.name for path in Path(daemon.root / "image" / "blobs").rglob("*")) == blobs
    assert cri.image(f"{registry.address}/large:v1") is None
    assert cri.output(running, "echo", "alive") == "alive\n"
    pod.remove()
