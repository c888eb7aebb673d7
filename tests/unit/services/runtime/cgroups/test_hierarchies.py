from __future__ import annotations

from pathlib import Path

from services.runtime.cgroups import hierarchies
from services.runtime.cgroups.hierarchies import Hierarchies


def test_the_driver_follows_the_configuration() -> None:
    assert hierarchies.choose_driver("systemd") == "systemd"
    assert hierarchies.choose_driver("cgroupfs") == "cgroupfs"


def test_what_block_io_can_be_given(tmp_path: Path) -> None:
    v1 = Hierarchies(unified=None, v1={"blkio": tmp_path})
    assert v1.limits_block_io()
    assert not Hierarchies(unified=None, v1={"memory": tmp_path}).limits_block_io()
    assert v1.block_io_weight() == ""
    (tmp_path / "any").mkdir()
    (tmp_path / "any" / "blkio.bfq.weight").touch()
    assert v1.block_io_weight() == "blkio.bfq.weight"
    v2 = Hierarchies(unified=tmp_path, v1={})
    (tmp_path / "cgroup.controllers").write_text("cpu io memory\n")
    assert v2.limits_block_io()
    assert v2.block_io_weight() == ""
    (tmp_path / "any" / "io.weight").touch()
    assert v2.block_io_weight() == "io.weight"
