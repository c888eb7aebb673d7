"""Limits of pods and containers: which pass, and which field a refusal names."""

from __future__ import annotations

import pytest

from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import InvalidInput
from kernel.front.requests.resources import resources_of


def limits(**fields: object) -> cri.LinuxContainerResources:
    return cri.LinuxContainerResources(**fields)  # type: ignore[arg-type]


def test_limits_pass_as_they_are() -> None:
    found = resources_of("f", limits(cpu_quota=-1, memory_swap_limit_in_bytes=-1, unified={"memory.high": "1"}))
    assert (found.cpu_quota, found.memory_swap_limit_in_bytes, found.unified) == (-1, -1, {"memory.high": "1"})


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("cpu_shares", limits(cpu_shares=-1)),
        ("memory_limit_in_bytes", limits(memory_limit_in_bytes=-1)),
        ("cpu_period", limits(cpu_period=-1)),
        ("oom_score_adj", limits(oom_score_adj=-2000)),
        ("cpuset_cpus", limits(cpuset_cpus="0-99999999")),
        ("unified", limits(unified={"../cgroup.procs": "1"})),
        ("unified", limits(unified={"cgroup.freeze": "1"})),
        (r"unified\[memory.max\]", limits(unified={"memory.max": "1\n2"})),
        (r"hugepage_limits\[0\].page_size", limits(hugepage_limits=[cri.HugepageLimit(page_size="../2MB")])),
    ],
)
def test_a_fault_names_its_field(field: str, given: cri.LinuxContainerResources) -> None:
    with pytest.raises(InvalidInput, match=rf"^f\.{field}: "):
        resources_of("f", given)
