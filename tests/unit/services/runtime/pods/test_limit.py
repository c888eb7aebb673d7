from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from kernel.contracts.runtime import PodRequest, Resources
from kernel.errors import InvalidInput
from kernel.ids import SandboxId
from services.runtime.cgroups.cgroup_path import PodCgroup
from services.runtime.cgroups.cgroup_tree import Cgroups
from services.runtime.cgroups.hierarchies import Hierarchies
from services.runtime.pods import limit

CGROUP = PodCgroup(driver="cgroupfs", name="/pod")
REQUEST = PodRequest(
    sandbox_id=SandboxId("a" * 64), name="p", namespace="n", uid="u",
    resources=Resources(memory_limit_in_bytes=4000), overhead=Resources(memory_limit_in_bytes=96),
)  # fmt: skip


@pytest.fixture
def groups(tmp_path: Path) -> Cgroups:
    (tmp_path / "pod").mkdir()
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    for name, value in (("memory.max", "max"), ("memory.swap.max", "max"), ("memory.current", "100")):
        (tmp_path / "pod" / name).write_text(value)
    return Cgroups(Hierarchies(unified=tmp_path, v1={}))


def test_a_cgroup_of_crisps_own_gets_the_containers_limits_and_the_overhead(groups: Cgroups, tmp_path: Path) -> None:
    limit.write(groups, CGROUP, REQUEST)
    assert (tmp_path / "pod" / "memory.max").read_text() == "4096"


@pytest.mark.parametrize("case", ["named", "slice", "none"])
def test_a_cgroup_of_the_kubelets_or_a_pod_without_limits_is_left_alone(
    groups: Cgroups, tmp_path: Path, case: str
) -> None:
    request = replace(REQUEST, cgroup_parent="/pod") if case == "named" else REQUEST
    request = replace(request, resources=Resources(), overhead=Resources()) if case == "none" else request
    cgroup = PodCgroup(driver="systemd", name="pod.slice") if case == "slice" else CGROUP
    limit.write(groups, cgroup, request)
    assert (tmp_path / "pod" / "memory.max").read_text() == "max"


def test_processors_that_the_host_does_not_have_are_rejected(groups: Cgroups) -> None:
    with pytest.raises(InvalidInput, match="cpuset_cpus"):
        limit.write(groups, CGROUP, replace(REQUEST, resources=Resources(cpuset_cpus="100000")))
