"""Limits, device rules and most processes as `linux.resources`."""

from __future__ import annotations

import pytest

from kernel.contracts.runtime import Resources
from kernel.errors import InvalidInput
from services.runtime.spec import resources
from services.runtime.spec.inputs import Defaults
from tests.unit.services.runtime.spec.samples import DEFAULTS, HOST, PLACE, differing


def test_resources() -> None:
    asked = Resources(
        cpu_period=100000, cpu_quota=50000, cpu_shares=512, memory_limit_in_bytes=1 << 20, cpuset_cpus="0-1",
        hugepage_limits={"2MB": 0},
    )  # fmt: skip
    found = resources.section(asked, PLACE, HOST, Defaults(capabilities=(), pids_limit=10))
    assert found["cpu"] == {"shares": 512, "quota": 50000, "period": 100000}
    assert found["memory"] == {"limit": 1 << 20, "swap": 1 << 20}
    assert found["pids"] == {"limit": 10}
    assert "hugepageLimits" not in found  # this host has no such controller
    able = differing(HOST, swap_accounting=False, controllers=frozenset({"hugetlb", "cpuset", "memory"}))
    found = resources.section(asked, PLACE, able, Defaults(capabilities=(), pids_limit=10))
    assert (found["cpu"], found["memory"]) == ({"cpus": "0-1"}, {"limit": 1 << 20})
    assert found["hugepageLimits"] == [{"pageSize": "2MB", "limit": 0}]
    assert "pids" not in found
    none = differing(HOST, controllers=frozenset())
    assert set(resources.section(asked, PLACE, none, DEFAULTS)) == {"devices"}
    assert set(resources.section(Resources(), PLACE, HOST, DEFAULTS)) == {"devices"}


@pytest.mark.parametrize(
    "asked",
    [
        Resources(cpu_shares=-1), Resources(cpu_quota=-2), Resources(memory_limit_in_bytes=2**63 - 1),
        Resources(cpuset_cpus="0;1"), Resources(hugepage_limits={"../x": 1}),
        Resources(unified={"../cgroup.procs": "1"}),
        Resources(unified={"memory.max\n": "1"}), Resources(unified={"memory.max": "1"}),
    ],
)  # fmt: skip
def test_limits_that_cannot_be(asked: Resources) -> None:
    with pytest.raises(InvalidInput, match=r"linux\.resources\."):
        resources.section(asked, PLACE, HOST, DEFAULTS)
