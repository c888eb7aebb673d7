"""Reads the files of cgroup v1 and v2 with the statistics of the CRI. Pure.

On a hybrid host each controller is v1 or v2 by itself; pressure is in v2 alone. A value whose file does not exist is
None.
"""

from __future__ import annotations

from collections.abc import Callable

from kernel.contracts.stats import CgroupUsage
from services.runtime.usage import pressure

Read = Callable[[str, str], str | None]
"""Returns the text of a file: of a v1 controller (`cpuacct`, `cpuacct.usage`) or of v2 (empty, `cpu.stat`). None if it
does not exist."""
UNIFIED = ""
"""The value that stands for v2 in place of a controller."""
UNLIMITED = 1 << 60
"""The least number of bytes that counts as no limit: v1 has one just below 2^63 for none."""


def usage(read: Read, v1: frozenset[str], at: int) -> CgroupUsage:
    """Return the usage of a cgroup. `v1`: the controllers of version 1. `at`: nanoseconds since 1970."""
    memory = _memory_v1(read) if "memory" in v1 else _memory_v2(read)
    return CgroupUsage(
        at=at,
        cpu=number(read("cpuacct", "cpuacct.usage")) if "cpuacct" in v1 else _cpu_v2(read),
        cpu_pressure=pressure.parse(read(UNIFIED, "cpu.pressure")),
        memory_pressure=pressure.parse(read(UNIFIED, "memory.pressure")),
        io_pressure=pressure.parse(read(UNIFIED, "io.pressure")),
        **memory,
    )


def number(text: str | None) -> int | None:
    """Return the number in a file that has only one; 0 for v2's `max`, which is no limit."""
    text = (text or "").strip()
    if text == "max":
        return 0
    return int(text) if text.isdigit() else None


def table(text: str | None) -> dict[str, int]:
    """Return the numbers by key in a file of lines `key number`."""
    found = {}
    for line in (text or "").splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            found[key] = int(value)
    return found


def limit(value: int | None) -> int | None:
    """Return a limit of v1 in bytes; 0 for none."""
    return value if value is None or value < UNLIMITED else 0


def _cpu_v2(read: Read) -> int | None:
    microseconds = table(read(UNIFIED, "cpu.stat")).get("usage_usec")
    return None if microseconds is None else microseconds * 1000


def _memory_v1(read: Read) -> dict[str, int | None]:
    stat, used = table(read("memory", "memory.stat")), number(read("memory", "memory.usage_in_bytes"))
    most, with_swap = limit(stat.get("hierarchical_memory_limit")), limit(stat.get("hierarchical_memsw_limit"))
    return {
        "memory": used,
        "working_set": _working_set(used, stat.get("total_inactive_file")),
        "rss": stat.get("total_rss"),
        "page_faults": stat.get("total_pgfault"),
        "major_page_faults": stat.get("total_pgmajfault"),
        "memory_limit": most,
        "swap": stat.get("total_swap"),
        "swap_limit": max(with_swap - most, 0) if with_swap and most is not None else None,
    }


def _memory_v2(read: Read) -> dict[str, int | None]:
    stat, used = table(read(UNIFIED, "memory.stat")), number(read(UNIFIED, "memory.current"))
    swap_limit = read(UNIFIED, "memory.swap.max")
    return {
        "memory": used,
        "working_set": _working_set(used, stat.get("inactive_file")),
        "rss": stat.get("anon"),
        "page_faults": stat.get("pgfault"),
        "major_page_faults": stat.get("pgmajfault"),
        "memory_limit": number(read(UNIFIED, "memory.max")),
        "swap": number(read(UNIFIED, "memory.swap.current")),
        "swap_limit": None if (swap_limit or "max").strip() == "max" else number(swap_limit),
    }


def _working_set(used: int | None, inactive_file: int | None) -> int | None:
    """Return memory without inactive files, as the kubelet counts it; never below 0, as files are read one by one."""
    return None if used is None else max(used - (inactive_file or 0), 0)
