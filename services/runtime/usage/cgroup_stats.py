"""Files of cgroup v1 and v2 that say what a cgroup uses: which to read, and what they mean. Pure.

On a hybrid host each controller is v1 or v2 by itself; pressure is always v2's. A file that is not there is None.
"""

from __future__ import annotations

from collections.abc import Callable

from kernel.contracts.stats import CgroupUsage
from services.runtime.usage import pressure

Read = Callable[[str, str], str | None]
"""The text of a file of a v1 controller (`cpuacct`, `cpuacct.usage`) or of v2 (empty, `cpu.stat`); None without it."""
UNIFIED = ""
UNLIMITED = 1 << 60
"""What v1 gives for no limit is just below 2^63; nothing has this much."""


def usage(read: Read, v1: frozenset[str], at: int) -> CgroupUsage:
    """What a cgroup uses, where the controllers `v1` are version 1."""
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
    """A file that is one number; v2's `max` is 0, which stands for no limit."""
    text = (text or "").strip()
    if text == "max":
        return 0
    return int(text) if text.isdigit() else None


def table(text: str | None) -> dict[str, int]:
    """A file of lines `key number`."""
    found = {}
    for line in (text or "").splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            found[key] = int(value)
    return found


def limit(value: int | None) -> int | None:
    """A v1 limit; 0 for none."""
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
    """The counters are not read in one moment: never less than nothing."""
    return None if used is None else max(used - (inactive_file or 0), 0)
