"""A disk that is full or out of inodes in the middle of a layer: said as such, and soon as it was before."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from deploy.demo_image import Layer, image
from tests.harness import host
from tests.harness.cri import Cri
from tests.harness.daemon import Daemon, serving
from tests.harness.registry import Registry
from tests.integration.conftest import insecure

FULL = grpc.StatusCode.RESOURCE_EXHAUSTED
SOON = 10.0


def small(folder: Path, **options: object) -> None:
    """Mount a small file system in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    host.run(
        "mount", "-t", "tmpfs", "-o", ",".join(f"{key}={value}" for key, value in options.items()), "small", str(folder)
    )


@pytest.fixture(scope="module")
def daemon(system_users: None, registry: Registry) -> Iterator[Daemon]:
    """A daemon whose blobs and layers each have a small file system of their own."""
    mine = Daemon(insecure(registry.address))
    blobs, layers = mine.root / "image" / "blobs", mine.root / "storage" / "layers"
    small(blobs, size="6m", nr_inodes=40)
    small(layers, size="12m", nr_inodes=400)
    with serving(mine):
        yield mine
        host.run("umount", "--lazy", str(blobs), str(layers))


def used(daemon: Daemon) -> tuple[int, ...]:
    """Blocks and inodes that are taken, of both."""
    found = [os.statvfs(daemon.root / name) for name in ("image/blobs", "storage/layers")]
    return tuple(number for stat in found for number in (stat.f_blocks - stat.f_bfree, stat.f_files - stat.f_ffree))


def noise(size: int, files: int = 1) -> bytes:
    layer = Layer()
    for number in range(files):
        layer.file(f"noise/{number}", secrets.token_bytes(size // files))
    return layer.tar()


def growing() -> bytes:
    """Little in the registry, too much here."""
    layer = Layer()
    layer.file("zeros", bytes(20 << 20))
    return layer.tar()


CASES = {
    "a layer larger than the disk": lambda: [noise(8 << 20)],
    "layers that each would fit": lambda: [noise(2 << 20) for _ in range(5)],
    "a layer that grows": lambda: [growing()],
    "a layer of many files": lambda: [noise(600, 600)],
    "layers of many files after good ones": lambda: [noise(1000), noise(1000), noise(600, 600)],
}


@pytest.mark.parametrize("what", CASES)
def test_the_disk_is_full(cri: Cri, daemon: Daemon, registry: Registry, what: str) -> None:
    name = f"full-{list(CASES).index(what)}"
    registry.push(image(CASES[what]()), name, "v1")
    before = used(daemon)
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as caught:
            cri.pull(f"{registry.address}/{name}:v1")
        assert caught.value.code() == FULL, caught.value.details()
        host.until("the disk is as it was", lambda: used(daemon) == before, SOON)
    assert cri.image(f"{registry.address}/{name}:v1") is None
    registry.push(image([noise(1000)]), "fits", name)
    cri.pull(f"{registry.address}/fits:{name}")
    cri.remove_image(f"{registry.address}/fits:{name}")
    assert used(daemon) == before
