"""Reads the files of a cgroup that only metrics show: throttling, limits, devices, huge pages, failures. Pure.

As in `cgroup_stats`, each controller is read in its own version, and a value whose file does not exist is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from kernel.contracts.stats import Detail, DeviceUsage, PageSizeUsage
from services.runtime.usage.cgroup_stats import UNIFIED, Read, limit, number, table

_TICKS = 10_000_000
"""Nanoseconds of a clock tick in cpuacct.stat: USER_HZ is 100 on every architecture that crisp runs on."""
_IO_V1 = (("blkio.throttle.io_service_bytes_recursive", "read_bytes", "write_bytes"),
          ("blkio.throttle.io_serviced_recursive", "reads", "writes"))  # fmt: skip
"""Files of v1, each with the fields for its lines Read and Write."""
_IO_V2 = {"rbytes": "read_bytes", "wbytes": "write_bytes", "rios": "reads", "wios": "writes"}
"""Fields by the keys in io.stat of v2."""
Names = Mapping[tuple[int, int], str]
"""Names of block devices by their major and minor numbers."""


def detail(read: Read, v1: frozenset[str], page_sizes: Iterable[str], names: Names) -> Detail:
    """Return all values of cgroup files; those of the processes in /proc are left out.

    `v1`: the controllers of version 1. `page_sizes`: sizes of huge pages, as cgroup files spell them.
    """
    fields: dict[str, int | None] = {
        **(_cpu_v1(read) if "cpuacct" in v1 else _cpu_times_v2(read)),
        **(_cfs_v1(read) if "cpu" in v1 else _cfs_v2(read)),
        **(_memory_v1(read) if "memory" in v1 else _memory_v2(read)),
    }
    pids = "pids" if "pids" in v1 else UNIFIED
    huge = "hugetlb" if "hugetlb" in v1 else UNIFIED
    return Detail(
        threads=number(read(pids, "pids.current")),
        threads_limit=number(read(pids, "pids.max")),
        devices=devices_v1(read, names) if "blkio" in v1 else devices_v2(read(UNIFIED, "io.stat"), names),
        huge_pages=tuple(_huge_pages(read, huge, page_sizes)),
        **fields,  # type: ignore[arg-type]  # these are the fields that are numbers
    )


def shares_of_weight(weight: int | None) -> int | None:
    """Return cpu.shares of v1 for cpu.weight of v2, as the OCI runtimes convert them."""
    return None if weight is None else 2 + math.ceil((weight - 1) * 262142 / 9999)


def devices_v1(read: Read, names: Names) -> tuple[DeviceUsage, ...]:
    """Return the counters of v1: those of blkio's throttling layer, which counts with every scheduler."""
    found: dict[tuple[int, int], DeviceUsage] = {}
    for file, reads, writes in _IO_V1:
        for line in (read("blkio", file) or "").splitlines():
            words = line.split()
            field = {"Read": reads, "Write": writes}.get(words[1]) if len(words) == 3 else None
            if field and words[2].isdigit():
                _count(found, words[0], {field: int(words[2])}, names)
    return tuple(found.values())


def devices_v2(text: str | None, names: Names) -> tuple[DeviceUsage, ...]:
    """Return the counters in v2's io.stat."""
    found: dict[tuple[int, int], DeviceUsage] = {}
    for line in (text or "").splitlines():
        device, *pairs = line.split() or [""]
        counters = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        known = {_IO_V2[key]: int(value) for key, value in counters.items() if key in _IO_V2 and value.isdigit()}
        if known:
            _count(found, device, known, names)
    return tuple(found.values())


def _count(found: dict[tuple[int, int], DeviceUsage], device: str, counters: dict[str, int], names: Names) -> None:
    major, _, minor = device.partition(":")
    if major.isdigit() and minor.isdigit():
        key = (int(major), int(minor))
        before = found.get(key) or DeviceUsage(major=key[0], minor=key[1], name=names.get(key, ""))
        found[key] = replace(before, **counters)


def _cpu_v1(read: Read) -> dict[str, int | None]:
    stat = table(read("cpuacct", "cpuacct.stat"))
    user, system = number(read("cpuacct", "cpuacct.usage_user")), number(read("cpuacct", "cpuacct.usage_sys"))
    return {
        "cpu_user": user if user is not None else _times(stat.get("user"), _TICKS),
        "cpu_system": system if system is not None else _times(stat.get("system"), _TICKS),
    }


def _cpu_times_v2(read: Read) -> dict[str, int | None]:
    stat = table(read(UNIFIED, "cpu.stat"))
    return {"cpu_user": _times(stat.get("user_usec"), 1000), "cpu_system": _times(stat.get("system_usec"), 1000)}


def _cfs_v1(read: Read) -> dict[str, int | None]:
    stat, quota = table(read("cpu", "cpu.stat")), (read("cpu", "cpu.cfs_quota_us") or "").strip()
    return {
        "cpu_periods": stat.get("nr_periods"),
        "cpu_throttled_periods": stat.get("nr_throttled"),
        "cpu_throttled": stat.get("throttled_time"),
        "cpu_shares": number(read("cpu", "cpu.shares")),
        "cpu_period": number(read("cpu", "cpu.cfs_period_us")),
        "cpu_quota": 0 if quota.startswith("-") else number(quota),
    }


def _cfs_v2(read: Read) -> dict[str, int | None]:
    stat = table(read(UNIFIED, "cpu.stat"))
    quota, _, period = (read(UNIFIED, "cpu.max") or "").strip().partition(" ")
    return {
        "cpu_periods": stat.get("nr_periods"),
        "cpu_throttled_periods": stat.get("nr_throttled"),
        "cpu_throttled": _times(stat.get("throttled_usec"), 1000),
        "cpu_shares": shares_of_weight(number(read(UNIFIED, "cpu.weight"))),
        "cpu_period": number(period),
        "cpu_quota": number(quota),
    }


def _memory_v1(read: Read) -> dict[str, int | None]:
    stat = table(read("memory", "memory.stat"))
    return {
        "memory_cache": stat.get("total_cache"),
        "memory_mapped_file": stat.get("total_mapped_file"),
        "memory_kernel": number(read("memory", "memory.kmem.usage_in_bytes")),
        "memory_most": number(read("memory", "memory.max_usage_in_bytes")),
        "memory_fail_count": number(read("memory", "memory.failcnt")),
        "memory_reservation": limit(number(read("memory", "memory.soft_limit_in_bytes"))),
        "own_page_faults": stat.get("pgfault"),
        "own_major_page_faults": stat.get("pgmajfault"),
        "oom_kills": table(read("memory", "memory.oom_control")).get("oom_kill"),
    }


def _memory_v2(read: Read) -> dict[str, int | None]:
    stat, events = table(read(UNIFIED, "memory.stat")), table(read(UNIFIED, "memory.events"))
    return {
        "memory_cache": stat.get("file"),
        "memory_mapped_file": stat.get("file_mapped"),
        "memory_kernel": stat.get("kernel", _sum(stat, "kernel_stack", "slab", "pagetables", "percpu")),
        "memory_most": number(read(UNIFIED, "memory.peak")),
        "memory_fail_count": events.get("max"),
        "memory_reservation": number(read(UNIFIED, "memory.low")),
        "oom_kills": events.get("oom_kill"),
    }


def _huge_pages(read: Read, controller: str, sizes: Iterable[str]) -> Iterable[PageSizeUsage]:
    for size in sizes:
        now = "current" if controller == UNIFIED else "usage_in_bytes"
        used = number(read(controller, f"hugetlb.{size}.{now}"))
        if used is not None:
            most = None if controller == UNIFIED else number(read(controller, f"hugetlb.{size}.max_usage_in_bytes"))
            yield PageSizeUsage(size=size, usage=used, most=most)


def _sum(stat: dict[str, int], *keys: str) -> int | None:
    found = [stat[key] for key in keys if key in stat]
    return sum(found) if found else None


def _times(value: int | None, factor: int) -> int | None:
    return None if value is None else value * factor
