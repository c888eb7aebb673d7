from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.config.sections import RuntimeSection
from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, PodRequest
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.ids import ContainerId, SandboxId
from services.runtime.cgroups.hierarchies import Hierarchies
from services.runtime.node import gather
from services.runtime.spec.additions import Edits

POD = PodRequest(sandbox_id=SandboxId("a" * 64), name="pod", namespace="ns", uid="u")


def test_every_containers_defaults() -> None:
    config = RuntimeSection(default_env=("A=1",), default_ulimits=("nofile=1:-1",), umask="022")
    found = gather.container_defaults(config, POD, may_raise=True)
    assert (dict(found.env), found.umask) == ({"A": "1"}, 0o22)
    assert found.rlimits[0]["hard"] == (1 << 64) - 1
    bounded = gather.container_defaults(config, POD, may_raise=False)
    assert bounded.rlimits[0]["hard"] <= found.rlimits[0]["hard"]  # type: ignore[operator]


def test_default_mounts_are_resolved_and_missing_ones_left_out(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    conf = tmp_path / "mounts.conf"
    conf.write_text(f"{tmp_path}/link:/run/a\n{tmp_path}/none:/run/b\n")
    assert gather.mounts(RuntimeSection(default_mounts_file=str(conf))) == (("/run/a", f"{tmp_path}/real"),)
    with pytest.raises(FailedPrecondition, match="default_mounts_file"):
        gather.mounts(RuntimeSection(default_mounts_file=f"{tmp_path}/gone"))


def test_a_time_zone_must_be_there() -> None:
    with pytest.raises(FailedPrecondition, match="timezone"):
        gather.mounts(RuntimeSection(timezone="No/Such_Zone"))


def test_nothing_asked_reads_nothing(tmp_path: Path) -> None:
    config = RuntimeSection(cdi_spec_dirs=("/no/such",), hooks_dirs=(f"{tmp_path}/none",))
    request = CreateRequest(
        container_id=ContainerId("c" * 64), sandbox_id=POD.sandbox_id, name="n", attempt=0, image=ImageConfig(),
        image_name="box", image_ref="box",
    )  # fmt: skip
    assert gather.cdi_edits(config, request) == Edits()
    assert gather.hook_edits(config, {}, {}, has_bind_mounts=False) == Edits()


def classed(annotations: dict[str, str], file: str, found: Hierarchies) -> Edits:
    request = CreateRequest(
        container_id=ContainerId("c" * 64), sandbox_id=POD.sandbox_id, name="n", attempt=0, image=ImageConfig(),
        image_name="box", image_ref="box", annotations=annotations,
    )  # fmt: skip
    return gather.classes(RuntimeSection(blockio_config_file=file), POD, request, found).edits


@pytest.mark.skipif(os.geteuid() != 0, reason="files must belong to root")
def test_classes_of_block_io(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked = {"io.kubernetes.cri.blockio-class": "slow"}
    file, groups = tmp_path / "blockio.yaml", tmp_path / "blkio"
    groups.mkdir()
    has = Hierarchies(unified=None, v1={"blkio": groups})
    assert classed({}, str(file), has) == Edits()
    with pytest.raises(FailedPrecondition, match=r"runtime\.blockio_config_file"):
        classed(asked, "", has)
    with pytest.raises(FailedPrecondition, match="No such file"):
        classed(asked, str(file), has)
    file.write_text("Classes: {slow: [{Weight: 20}, {Devices: [/no/such*], ThrottleReadBps: 1M}], other: []}")
    assert classed(asked, str(file), has) == Edits()  # weights and devices are not there
    assert "weights of block I/O class slow" in caplog.text
    assert "/no/such* is no block device" in caplog.text
    (groups / "any").mkdir()
    (groups / "any" / "blkio.weight").touch()
    assert classed(asked, str(file), has).block_io == {"weight": 20}
    assert classed(asked, str(file), Hierarchies(unified=None, v1={})) == Edits()
    with pytest.raises(InvalidInput, match=r"blockio-class\]: class 'x' is unknown; there are other, slow"):
        classed({"io.kubernetes.cri.blockio-class": "x"}, str(file), has)
    file.chmod(0o666)
    with pytest.raises(FailedPrecondition, match="others than root"):
        classed(asked, str(file), has)


def test_groups_of_resctrl(tmp_path: Path) -> None:
    assert gather._groups(str(tmp_path)) is None
    (tmp_path / "schemata").touch()
    (tmp_path / "gold").mkdir()
    assert gather._groups(str(tmp_path)) == ["gold"]


def test_block_devices_by_pattern() -> None:
    assert gather.block_devices("/dev/nul[l]") == []
    assert gather.block_devices("dev/loop0") == []
    for device in gather.block_devices("/dev/loop[0-9]"):
        assert device[0] == 7
