from __future__ import annotations

from pathlib import Path

import pytest

from kernel.config.paths import Paths
from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, Mount
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.ids import ContainerId, SandboxId
from services.runtime.namespaces import mount_sources


def request(*host_paths: str) -> CreateRequest:
    mounts = tuple(Mount(container_path="/x", host_path=path) for path in host_paths)
    return CreateRequest(
        container_id=ContainerId("c" * 64), sandbox_id=SandboxId("a" * 64), name="n", attempt=0, image=ImageConfig(),
        image_name="box", image_ref="box", mounts=mounts,
    )  # fmt: skip


def paths(folder: Path) -> Paths:
    return Paths(folder, folder, folder)


def find(folder: Path, *host_paths: str, reject: tuple[str, ...] = ()) -> mount_sources.Found:
    return mount_sources.find(request(*host_paths), paths(folder), reject)


def test_sources_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert find(tmp_path, f"{tmp_path}/link/../link").paths == (f"{tmp_path}/real",)


def test_missing_ones_become_folders(tmp_path: Path) -> None:
    found = find(tmp_path, str(tmp_path), f"{tmp_path}/a/b")
    assert found.missing == (1,)
    assert not (tmp_path / "a").exists()  # not before everything else was checked
    assert mount_sources.make_missing(found).paths == (str(tmp_path), f"{tmp_path}/a/b")
    assert (tmp_path / "a" / "b").is_dir()


def test_what_is_listed_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"mounts\[0\]\.host_path: .*may not be made"):
        find(tmp_path, f"{tmp_path}/absent/", reject=(f"{tmp_path}/absent",))


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match=r"mounts\[0\]\.host_path"):
        mount_sources.make_missing(find(tmp_path, f"{tmp_path}/dangling"))
    with pytest.raises(InvalidInput, match=r"mounts\[0\]\.host_path: .*Not a directory"):
        find(tmp_path, f"{tmp_path}/file/below")


def test_an_image_volume_must_be_mounted(tmp_path: Path) -> None:
    where = paths(tmp_path)
    asked = request()
    (where.image_volume(asked.container_id, 0) / "sub").mkdir(parents=True)
    mount = Mount(container_path="/x", image_volume=0, image_sub_path="sub", readonly=True)
    with pytest.raises(FailedPrecondition, match=r"mounts\[0\]\.image"):
        mount_sources._in_image(0, mount, where.image_volume(asked.container_id, 0))
    with pytest.raises(InvalidInput, match="image_sub_path"):
        mount_sources._in_image(0, Mount(container_path="/x", image_volume=0, image_sub_path="../.."), tmp_path)
