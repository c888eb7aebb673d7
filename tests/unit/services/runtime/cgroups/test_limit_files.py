from __future__ import annotations

from pathlib import Path

import pytest

from kernel.contracts.runtime import Resources
from kernel.errors import FailedPrecondition, Internal, InvalidInput
from services.runtime.cgroups import limit_files
from services.runtime.cgroups.cgroup_tree import Cgroups
from services.runtime.cgroups.hierarchies import Hierarchies
from services.runtime.spec.limits import Support, Write

SUPPORT = Support(unified=True, controllers=frozenset({"cpu", "memory"}), swap=False)


@pytest.fixture
def groups(tmp_path: Path) -> Cgroups:
    (tmp_path / "box").mkdir()
    for name, value in (("cpu.weight", "100"), ("memory.max", "max"), ("memory.current", "5000")):
        (tmp_path / "box" / name).write_text(f"{value}\n")
    return Cgroups(Hierarchies(unified=tmp_path, v1={}))


def test_all_files_are_written(groups: Cgroups, tmp_path: Path) -> None:
    asked = Resources(memory_limit_in_bytes=8000, cpu_shares=2)
    limit_files.apply(groups, "/box", asked, asked, SUPPORT, "container x")
    assert (tmp_path / "box" / "memory.max").read_text() == "8000"
    assert (tmp_path / "box" / "cpu.weight").read_text() == "1"


def test_a_limit_below_the_use_changes_nothing(groups: Cgroups, tmp_path: Path) -> None:
    asked = Resources(memory_limit_in_bytes=4000, cpu_shares=2)
    with pytest.raises(FailedPrecondition, match="current use of 5000 bytes"):
        limit_files.apply(groups, "/box", asked, asked, SUPPORT, "container x")
    assert (tmp_path / "box" / "cpu.weight").read_text() == "100\n"
    assert limit_files.memory_use(groups, "/gone") is None


def test_after_an_error_every_file_is_as_it_was(groups: Cgroups, tmp_path: Path) -> None:
    planned = (
        Write(controller="cpu", file="cpu.weight", value="7"),
        Write(controller="memory", file="memory.high", value="1"),
    )
    with pytest.raises(InvalidInput, match=r"this host has no memory\.high"):
        limit_files.write(groups, "/box", planned, "container x")
    assert (tmp_path / "box" / "cpu.weight").read_text() == "100"


def test_a_cgroup_or_controller_that_is_not_there_is_an_error(groups: Cgroups, tmp_path: Path) -> None:
    planned = (Write(controller="cpu", file="cpu.weight", value="7"),)
    with pytest.raises(Internal, match="No such file"):
        limit_files.write(groups, "/gone", planned, "container x")
    with pytest.raises(Internal, match="no controller cpu"):
        limit_files.write(Cgroups(Hierarchies(unified=None, v1={"memory": tmp_path})), "/box", planned, "container x")
