from __future__ import annotations

import pytest

from kernel.contracts.runtime import Resources
from kernel.errors import FailedPrecondition, InvalidInput
from services.runtime.spec import limits
from services.runtime.spec.limits import Support

V1 = Support(unified=False, controllers=frozenset({"cpu", "cpuset", "memory", "pids"}), swap=True)
V2 = Support(unified=True, controllers=frozenset({"cpu", "cpuset", "memory", "pids", "hugetlb"}), swap=True)
MIB = 1 << 20


def files(asked: Resources, held: Resources | None, support: Support) -> dict[str, str]:
    whole = limits.merge(held or Resources(), asked)
    return {write.file: write.value for write in limits.writes(asked, whole, support)}


@pytest.mark.parametrize("text", ["0-4", "4", "9-8", "0,60000", "70000-80000", "0-99999999999"])
def test_a_cpu_that_the_host_has_not_is_refused(text: str) -> None:
    there = limits.numbers("0-3,6\n")
    assert there == {0, 1, 2, 3, 6}
    with pytest.raises(InvalidInput, match=r"linux\.resources\.cpuset_cpus"):
        limits.check_sets(Resources(cpuset_cpus=text), there, None)
    with pytest.raises(InvalidInput, match=r"linux\.resources\.cpuset_mems"):
        limits.check_sets(Resources(cpuset_mems=text), None, there)
    limits.check_sets(Resources(cpuset_cpus="0-2,6", cpuset_mems=text), there, None)


def test_what_an_update_leaves_unset_stays() -> None:
    held = Resources(cpu_shares=512, memory_limit_in_bytes=64 * MIB, hugepage_limits={"2MB": 1}, unified={"a.b": "1"})
    asked = Resources(cpu_quota=1000, hugepage_limits={"1GB": 2}, unified={"a.b": "2"})
    merged = limits.merge(held, asked)
    assert (merged.cpu_shares, merged.cpu_quota, merged.memory_limit_in_bytes) == (512, 1000, 64 * MIB)
    assert merged.hugepage_limits == {"2MB": 1, "1GB": 2}
    assert merged.unified == {"a.b": "2"}


def test_files_of_v1() -> None:
    asked = Resources(
        cpu_shares=512, cpu_quota=-1, cpu_period=100_000, memory_limit_in_bytes=64 * MIB, cpuset_cpus="0-1",
        cpuset_mems="0",
    )  # fmt: skip
    assert files(asked, None, V1) == {
        "cpu.shares": "512", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "-1",
        "memory.limit_in_bytes": str(64 * MIB), "memory.memsw.limit_in_bytes": str(64 * MIB),
        "cpuset.cpus": "0-1", "cpuset.mems": "0",
    }  # fmt: skip


def test_files_of_v2() -> None:
    asked = Resources(
        cpu_shares=1024, cpu_quota=50_000, memory_limit_in_bytes=64 * MIB, memory_swap_limit_in_bytes=96 * MIB,
        hugepage_limits={"2MB": 4 * MIB}, unified={"memory.high": "1000", "cpu.weight": "7"},
    )  # fmt: skip
    assert files(asked, Resources(cpu_period=200_000), V2) == {
        "cpu.weight": "7", "cpu.max": "50000 200000", "memory.max": str(64 * MIB), "memory.swap.max": str(32 * MIB),
        "hugetlb.2MB.max": str(4 * MIB), "memory.high": "1000",
    }  # fmt: skip


def test_a_quota_taken_away_and_endless_swap() -> None:
    held = Resources(cpu_quota=1000, memory_limit_in_bytes=MIB)
    assert files(Resources(cpu_quota=-1, memory_swap_limit_in_bytes=-1), held, V2) == {
        "cpu.max": "max 100000", "memory.max": str(MIB), "memory.swap.max": "max",
    }  # fmt: skip


@pytest.mark.parametrize(("shares", "weight"), [(1, 1), (2, 1), (1024, 39), (262144, 10000), (1 << 40, 10000)])
def test_shares_become_weight(shares: int, weight: int) -> None:
    assert limits.weight(shares) == weight


def test_what_the_host_lacks_is_left_out_and_named() -> None:
    asked = Resources(hugepage_limits={"2MB": 1}, memory_limit_in_bytes=MIB, memory_swap_limit_in_bytes=2 * MIB)
    poor = Support(unified=False, controllers=frozenset({"cpu"}), swap=False)
    assert files(asked, None, poor) == {}
    assert limits.section(asked, V1) == {"memory": {"limit": MIB, "swap": 2 * MIB}}
    assert [note.partition(":")[0] for note in limits.left_out(asked, poor)] == [
        "hugepage_limits", "memory_swap_limit_in_bytes", "memory",
    ]  # fmt: skip
    assert limits.left_out(asked, V1) == ("hugepage_limits: the host has no hugetlb controller",)


def test_limits_that_cannot_be_are_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="memory_swap_limit_in_bytes"):
        files(Resources(memory_limit_in_bytes=2 * MIB, memory_swap_limit_in_bytes=MIB), None, V1)
    with pytest.raises(InvalidInput, match="unified"):
        files(Resources(unified={"memory.high": "1"}), None, V1)
    with pytest.raises(FailedPrecondition, match=f"memory_limit_in_bytes: {MIB} is below the current use of {2 * MIB}"):
        limits.check_use(Resources(memory_limit_in_bytes=MIB), 2 * MIB)
    limits.check_use(Resources(), 2 * MIB)


def test_a_pods_limits_are_its_containers_and_its_overheads() -> None:
    whole = limits.total(
        Resources(cpu_shares=100, cpu_quota=1000, cpu_period=100_000, memory_limit_in_bytes=MIB),
        Resources(cpu_shares=10, cpu_quota=500, memory_limit_in_bytes=2 * MIB),
    )
    assert (whole.cpu_shares, whole.cpu_quota, whole.memory_limit_in_bytes) == (110, 1500, 3 * MIB)
    unlimited = limits.total(Resources(), Resources(memory_limit_in_bytes=MIB))
    assert unlimited.memory_limit_in_bytes == 0
    assert limits.total(Resources(), Resources(cpu_quota=500, cpu_period=1000)) == Resources()
    assert limits.total(Resources(cpu_quota=-1), Resources(cpu_quota=500, cpu_period=1000)).cpu_quota == 0
    scaled = limits.total(Resources(cpu_quota=100, cpu_period=100), Resources(cpu_quota=500, cpu_period=1000))
    assert (scaled.cpu_quota, scaled.cpu_period) == (150, 100)
