from __future__ import annotations

from pathlib import Path

import pytest

from kernel.config import RuntimeSection
from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, PodRequest
from kernel.errors import FailedPrecondition
from kernel.ids import ContainerId, SandboxId
from services.runtime import configured
from services.runtime.edits import Edits

POD = PodRequest(sandbox=SandboxId("a" * 64), name="pod", namespace="ns", uid="u")


def test_every_containers_defaults() -> None:
    config = RuntimeSection(default_env=("A=1",), default_ulimits=("nofile=1:-1",), umask="022")
    found = configured.of_every_container(config, POD, may_raise=True)
    assert (dict(found.env), found.umask) == ({"A": "1"}, 0o22)
    assert found.rlimits[0]["hard"] == (1 << 64) - 1
    bounded = configured.of_every_container(config, POD, may_raise=False)
    assert bounded.rlimits[0]["hard"] <= found.rlimits[0]["hard"]  # type: ignore[operator]


def test_default_mounts_are_resolved_and_missing_ones_left_out(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    conf = tmp_path / "mounts.conf"
    conf.write_text(f"{tmp_path}/link:/run/a\n{tmp_path}/none:/run/b\n")
    assert configured.mounts(RuntimeSection(default_mounts_file=str(conf))) == (("/run/a", f"{tmp_path}/real"),)
    with pytest.raises(FailedPrecondition, match="default_mounts_file"):
        configured.mounts(RuntimeSection(default_mounts_file=f"{tmp_path}/gone"))


def test_a_time_zone_must_be_there() -> None:
    with pytest.raises(FailedPrecondition, match="timezone"):
        configured.mounts(RuntimeSection(timezone="No/Such_Zone"))


def test_nothing_asked_reads_nothing(tmp_path: Path) -> None:
    config = RuntimeSection(cdi_spec_dirs=("/no/such",), hooks_dirs=(f"{tmp_path}/none",))
    request = CreateRequest(
        container=ContainerId("c" * 64), sandbox=POD.sandbox, name="n", attempt=0, image=ImageConfig(),
        image_name="box", image_ref="box",
    )  # fmt: skip
    assert configured.cdi_edits(config, request) == Edits()
    assert configured.hook_edits(config, {}, {}, has_bind_mounts=False) == Edits()
