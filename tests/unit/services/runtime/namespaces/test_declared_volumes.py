"""An image's volumes are folders of the container's own root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest
from kernel.errors import InvalidInput
from kernel.ids import ContainerId, SandboxId
from services.runtime.namespaces import declared_volumes


def request(**fields: object) -> CreateRequest:
    values: dict[str, object] = {"image": ImageConfig(), **fields}
    return CreateRequest(
        container_id=ContainerId("c" * 64), sandbox_id=SandboxId("a" * 64), name="n", attempt=0, image_name="box",
        image_ref="box", **values,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to root")
def test_volumes_stay_inside_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "var").mkdir(parents=True)
    (root / "out").symlink_to("/../../var")
    asked = request(image=ImageConfig(volumes=("/data/in", "/../../up", "/out/deep")))
    assert declared_volumes.make(root, asked) == (
        ("/data/in", f"{root}/data/in"), ("/out/deep", f"{root}/var/deep"), ("/up", f"{root}/up"),
    )  # fmt: skip
    assert not (tmp_path / "up").exists()
    for volume in ("/", "/proc/x", "/sys/../proc"):
        with pytest.raises(InvalidInput, match="Volumes"):
            declared_volumes.make(root, request(image=ImageConfig(volumes=(volume,))))
