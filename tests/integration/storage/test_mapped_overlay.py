"""Overlays over id-mapped layers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kernel.contracts.oci import IdMap, IdRange
from kernel.errors import FailedPrecondition
from kernel.host.aio import Deadline
from services.runtime.namespaces import user_namespace
from services.storage.roots import mapped_overlay, overlay

IDS = IdMap(
    uids=IdRange(container_id=0, host_id=100000, length=2000), gids=IdRange(container_id=0, host_id=200000, length=2000)
)


@pytest.fixture
async def namespace() -> AsyncIterator[Path]:
    async with user_namespace.child((), IDS, Deadline.after(20)) as made:
        yield made / "user"


@pytest.fixture
def layers(tmp_path: Path) -> list[Path]:
    """Two layers, each with a file of another user."""
    found = []
    for number in range(2):
        layer = tmp_path / f"layer{number}"
        layer.mkdir()
        (layer / f"file{number}").write_text("layer's")
        os.chown(layer / f"file{number}", 1000 + number, 5)
        found.append(layer)
    for name in ("nothing", "upper", "work", "root"):
        (tmp_path / name).mkdir()
    return found


def owner(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid


async def test_layers_are_mapped_and_writes_lie_under_the_hosts_ids(
    tmp_path: Path, layers: list[Path], namespace: Path
) -> None:
    root, nothing = tmp_path / "root", tmp_path / "nothing"
    before = Path("/proc/self/mountinfo").read_text().count("\n")
    mapped_overlay.attach(overlay.plan_mount(layers, nothing, tmp_path, root), namespace, nothing)
    try:
        assert Path("/proc/self/mountinfo").read_text().count("\n") == before + 1, "a step of the way stayed mounted"
        assert owner(root / "file0") == (101000, 200005)
        with (root / "file1").open("a") as file:
            file.write(" and mine")
        assert owner(tmp_path / "upper" / "file1") == (101001, 200005)
        assert owner(layers[1] / "file1") == (1001, 5)
        assert (layers[1] / "file1").read_text() == "layer's"
    finally:
        overlay.detach(root)
    assert not list(nothing.iterdir())


async def test_an_image_volume_is_mapped_and_read_only(tmp_path: Path, layers: list[Path], namespace: Path) -> None:
    root, nothing = tmp_path / "root", tmp_path / "nothing"
    mapped_overlay.attach(overlay.plan_read_only(layers, nothing, root), namespace, nothing)
    try:
        assert owner(root / "file0") == (101000, 200005)
        with pytest.raises(OSError, match="Read-only"):
            (root / "file0").write_text("x")
    finally:
        overlay.detach(root)


def test_a_pod_without_a_namespace(tmp_path: Path, layers: list[Path]) -> None:
    root, nothing = tmp_path / "root", tmp_path / "nothing"
    with pytest.raises(FailedPrecondition, match="no user namespace"):
        mapped_overlay.attach(overlay.plan_mount(layers, nothing, tmp_path, root), tmp_path / "pin", nothing)
    assert not os.path.ismount(root)
