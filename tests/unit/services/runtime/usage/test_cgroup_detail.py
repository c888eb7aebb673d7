"""What only metrics show, for both versions of cgroups."""

from __future__ import annotations

import pytest

from kernel.contracts.stats import DeviceUsage, PageSizeUsage
from services.runtime.usage import cgroup_detail
from services.runtime.usage.cgroup_stats import Read

CONTROLLERS = frozenset({"cpu", "cpuacct", "memory", "pids", "blkio", "hugetlb"})
NAMES = {(8, 0): "sda"}


def reader(files: dict[tuple[str, str], str]) -> Read:
    return lambda controller, name: files.get((controller, name))


def test_v1() -> None:
    files = {
        ("cpuacct", "cpuacct.usage_user"): "3000\n",
        ("cpuacct", "cpuacct.usage_sys"): "4000\n",
        ("cpu", "cpu.stat"): "nr_periods 9\nnr_throttled 8\nthrottled_time 7\n",
        ("cpu", "cpu.shares"): "1024\n",
        ("cpu", "cpu.cfs_period_us"): "100000\n",
        ("cpu", "cpu.cfs_quota_us"): "-1\n",
        ("memory", "memory.stat"): "pgfault 1\npgmajfault 2\ntotal_cache 3\ntotal_mapped_file 4\n",
        ("memory", "memory.max_usage_in_bytes"): "77\n",
        ("memory", "memory.soft_limit_in_bytes"): "9223372036854771712\n",
        ("memory", "memory.oom_control"): "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        ("pids", "pids.current"): "5\n",
        ("pids", "pids.max"): "max\n",
        ("blkio", "blkio.throttle.io_service_bytes_recursive"): "8:0 Read 4096\n8:0 Write 512\n8:0 Total 4608\n",
        ("blkio", "blkio.throttle.io_serviced_recursive"): "8:0 Read 2\n8:0 Write 1\n9:1 Read 3\nTotal 3\n",
        ("hugetlb", "hugetlb.2MB.usage_in_bytes"): "2097152\n",
        ("hugetlb", "hugetlb.2MB.max_usage_in_bytes"): "4194304\n",
    }  # fmt: skip
    found = cgroup_detail.detail(reader(files), CONTROLLERS, ["2MB", "1GB"], NAMES)
    assert (found.cpu_user, found.cpu_system) == (3000, 4000)
    assert (found.cpu_periods, found.cpu_throttled_periods, found.cpu_throttled) == (9, 8, 7)
    assert (found.cpu_shares, found.cpu_period, found.cpu_quota) == (1024, 100000, 0)
    assert (found.own_page_faults, found.own_major_page_faults) == (1, 2)
    assert (found.memory_cache, found.memory_mapped_file, found.memory_most) == (3, 4, 77)
    assert (found.memory_reservation, found.oom_kills, found.threads, found.threads_limit) == (0, 2, 5, 0)
    assert found.devices == (
        DeviceUsage(major=8, minor=0, name="sda", read_bytes=4096, write_bytes=512, reads=2, writes=1),
        DeviceUsage(major=9, minor=1, name="", reads=3),
    )
    assert found.huge_pages == (PageSizeUsage(size="2MB", usage=2097152, most=4194304),)


def test_v1_counts_ticks_where_it_has_nothing_better() -> None:
    files = {("cpuacct", "cpuacct.stat"): "user 2\nsystem 3\n"}
    found = cgroup_detail.detail(reader(files), CONTROLLERS, [], {})
    assert (found.cpu_user, found.cpu_system) == (20_000_000, 30_000_000)


def test_v2() -> None:
    files = {
        ("", "cpu.stat"): "usage_usec 7\nuser_usec 3\nsystem_usec 4\nnr_periods 9\nnr_throttled 8\nthrottled_usec 7\n",
        ("", "cpu.weight"): "39\n",
        ("", "cpu.max"): "20000 100000\n",
        ("", "memory.stat"): "file 3\nfile_mapped 4\nkernel 5\npgfault 1\n",
        ("", "memory.peak"): "77\n",
        ("", "memory.low"): "0\n",
        ("", "memory.events"): "low 0\nhigh 0\nmax 6\noom 1\noom_kill 2\n",
        ("", "pids.current"): "5\n",
        ("", "pids.max"): "100\n",
        ("", "io.stat"): "8:0 rbytes=4096 wbytes=512 rios=2 wios=1 dbytes=0 dios=0\n9:1\n\nnonsense x=y\n",
        ("", "hugetlb.1GB.current"): "0\n",
    }
    found = cgroup_detail.detail(reader(files), frozenset(), ["2MB", "1GB"], NAMES)
    assert (found.cpu_user, found.cpu_system) == (3000, 4000)
    assert (found.cpu_periods, found.cpu_throttled_periods, found.cpu_throttled) == (9, 8, 7000)
    assert (found.cpu_shares, found.cpu_period, found.cpu_quota) == (999, 100000, 20000)
    assert (found.memory_cache, found.memory_mapped_file, found.memory_kernel, found.memory_most) == (3, 4, 5, 77)
    assert (found.memory_fail_count, found.oom_kills, found.threads, found.threads_limit) == (6, 2, 5, 100)
    assert found.devices == (
        DeviceUsage(major=8, minor=0, name="sda", read_bytes=4096, write_bytes=512, reads=2, writes=1),
    )
    assert found.huge_pages == (PageSizeUsage(size="1GB", usage=0),)


@pytest.mark.parametrize(("weight", "shares"), [(None, None), (1, 2), (10000, 262144)])
def test_the_ends_of_the_scale_of_weights(weight: int | None, shares: int | None) -> None:
    assert cgroup_detail.shares_of_weight(weight) == shares


@pytest.mark.parametrize("controllers", [CONTROLLERS, frozenset[str]()])
def test_a_cgroup_that_has_gone_says_nothing(controllers: frozenset[str]) -> None:
    found = cgroup_detail.detail(reader({}), controllers, ["2MB"], {})
    assert (found.cpu_user, found.memory_cache, found.threads, found.devices, found.huge_pages) == (
        None, None, None, (), (),
    )  # fmt: skip
