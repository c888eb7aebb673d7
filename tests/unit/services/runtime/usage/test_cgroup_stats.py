"""What cgroup files say, for v1, v2 and hybrid hosts, with files missing."""

from __future__ import annotations

import pytest

from services.runtime.usage import cgroup_stats

V1 = {
    ("cpuacct", "cpuacct.usage"): "21739217\n",
    ("memory", "memory.usage_in_bytes"): "1000000\n",
    ("memory", "memory.stat"): "cache 1\nrss 2\ntotal_rss 600000\ntotal_inactive_file 300000\ntotal_pgfault 50\n"
    "total_pgmajfault 3\ntotal_swap 4096\nhierarchical_memory_limit 2000000\nhierarchical_memsw_limit 3000000\n",
    ("", "memory.pressure"): "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
}
V2 = {
    ("", "cpu.stat"): "usage_usec 21739\nuser_usec 1\nsystem_usec 2\n",
    ("", "memory.current"): "1000000\n",
    ("", "memory.stat"): "anon 600000\nfile 10\ninactive_file 300000\npgfault 50\npgmajfault 3\n",
    ("", "memory.max"): "2000000\n",
    ("", "memory.swap.current"): "4096\n",
    ("", "memory.swap.max"): "1000000\n",
}


def reader(files: dict[tuple[str, str], str]) -> cgroup_stats.Read:
    return lambda controller, name: files.get((controller, name))


@pytest.mark.parametrize(
    ("files", "v1", "cpu"),
    [(V1, {"cpuacct", "memory"}, 21_739_217), (V2, set(), 21_739_000)],
    ids=["v1", "v2"],
)
def test_both_versions_mean_the_same(files: dict[tuple[str, str], str], v1: set[str], cpu: int) -> None:
    found = cgroup_stats.usage(reader(files), frozenset(v1), 5)
    assert (found.at, found.cpu, found.memory, found.working_set, found.rss) == (5, cpu, 1_000_000, 700_000, 600_000)
    assert (found.page_faults, found.major_page_faults) == (50, 3)
    assert (found.memory_limit, found.swap, found.swap_limit) == (2_000_000, 4096, 1_000_000)


def test_a_hybrid_host_reads_each_controller_where_it_is() -> None:
    found = cgroup_stats.usage(reader({**V2, **V1}), frozenset({"memory"}), 5)
    assert (found.cpu, found.memory) == (21_739_000, 1_000_000)
    assert found.memory_pressure is not None
    assert found.memory_pressure.some.total == 7000
    assert found.cpu_pressure is None


def test_no_limits() -> None:
    none = "9223372036854771712"
    v1 = {("memory", "memory.stat"): f"hierarchical_memory_limit {none}\nhierarchical_memsw_limit {none}\n"}
    found = cgroup_stats.usage(reader(v1), frozenset({"memory"}), 5)
    assert (found.memory_limit, found.swap_limit) == (0, None)
    v2 = {("", "memory.max"): "max\n", ("", "memory.swap.max"): "max\n"}
    found = cgroup_stats.usage(reader(v2), frozenset(), 5)
    assert (found.memory_limit, found.swap_limit) == (0, None)


def test_no_swap_allowed_is_not_no_limit() -> None:
    v1 = {("memory", "memory.stat"): "hierarchical_memory_limit 100\nhierarchical_memsw_limit 100\n"}
    assert cgroup_stats.usage(reader(v1), frozenset({"memory"}), 5).swap_limit == 0
    assert cgroup_stats.usage(reader({("", "memory.swap.max"): "0\n"}), frozenset(), 5).swap_limit == 0


@pytest.mark.parametrize("v1", [frozenset[str](), frozenset({"cpuacct", "memory"})])
def test_a_cgroup_that_has_gone_says_nothing(v1: frozenset[str]) -> None:
    found = cgroup_stats.usage(reader({}), v1, 5)
    assert (found.cpu, found.memory, found.working_set, found.swap, found.io_pressure) == (None,) * 5


def test_the_working_set_is_never_less_than_nothing() -> None:
    files = {**V2, ("", "memory.current"): "10\n"}
    assert cgroup_stats.usage(reader(files), frozenset(), 5).working_set == 0
