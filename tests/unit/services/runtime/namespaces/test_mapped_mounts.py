"""Which volumes get an id-mapped copy, where, and that taking copies off deletes nothing of somebody's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.contracts.oci import IdMap, IdRange, ImageConfig
from kernel.contracts.runtime import CreateRequest, Mount, Propagation
from kernel.ids import ContainerId, SandboxId
from services.runtime.namespaces import mapped_mounts

IDS = IdRange(container_id=0, host_id=1000, length=3)
MAP = IdMap(uids=IDS, gids=IDS)
CONTAINER = ContainerId("2" * 64)


def request(*mounts: Mount) -> CreateRequest:
    return CreateRequest(
        container_id=CONTAINER, sandbox_id=SandboxId("1" * 64), name="c", attempt=0, image=ImageConfig(),
        image_name="i", image_ref="r", mounts=mounts,
    )  # fmt: skip


def test_only_what_has_a_mapping_is_copied() -> None:
    asked = request(
        Mount(container_path="/a", host_path="/x"),
        Mount(container_path="/b", host_path="/y", id_map=MAP, propagation=Propagation.HOST_TO_CONTAINER),
        Mount(container_path="/c", host_path="/z", id_map=MAP),
    )
    sources, copies = mapped_mounts.plan(Path("/run/r"), asked, ("/real/x", "/real/y", "/real/z"))
    below = f"/run/r/mounts/{CONTAINER}"
    assert sources == ("/real/x", f"{below}/1", f"{below}/2")
    assert [(copy.index, copy.source, str(copy.point), copy.slave) for copy in copies] == [
        (1, "/real/y", f"{below}/1", True),
        (2, "/real/z", f"{below}/2", False),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="unmounts")
def test_a_point_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    mapped_mounts.remove(tmp_path, CONTAINER)  # there is none
    point = mapped_mounts.folder(tmp_path, CONTAINER) / "0"
    point.mkdir(parents=True)
    (point / "precious").touch()
    with pytest.raises(OSError, match="not empty"):
        mapped_mounts.remove(tmp_path, CONTAINER)
    assert (point / "precious").exists()
    (point / "precious").unlink()
    mapped_mounts.remove(tmp_path, CONTAINER)
    assert not point.parent.exists()
