"""Limits of containers and pods (linux.resources of the CRI), as OCI fields and as cgroup files of a running one. Pure.

The OCI fields are those of config-linux.md, Memory, CPU, Huge page limits and Unified. Rules kept: a field that a
request leaves at 0 or empty keeps the value in force; a limit whose controller the host lacks is left out and
reported, and never an error; a container without a swap limit gets no swap, as with other runtimes.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from msgspec.structs import replace

from kernel.contracts.runtime import Resources
from kernel.errors import FailedPrecondition, InvalidInput

_FIELD = "linux.resources"
_PERIOD = 100_000
"""The kernel's default period, in microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """Facts about the host that decide which limits it can keep."""

    unified: bool
    """Whether it has cgroup v2 alone."""
    controllers: Set[str]
    """Names of the cgroup controllers that can be used."""
    swap: bool
    """Whether memory and swap together can be limited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A value for one file of a cgroup."""

    controller: str
    file: str
    value: str


def merge(current: Resources, requested: Resources) -> Resources:
    """Return the limits after an update: what the request leaves unset stays as it is."""
    return Resources(
        cpu_period=requested.cpu_period or current.cpu_period,
        cpu_quota=requested.cpu_quota or current.cpu_quota,
        cpu_shares=requested.cpu_shares or current.cpu_shares,
        memory_limit_in_bytes=requested.memory_limit_in_bytes or current.memory_limit_in_bytes,
        oom_score_adj=requested.oom_score_adj or current.oom_score_adj,
        cpuset_cpus=requested.cpuset_cpus or current.cpuset_cpus,
        cpuset_mems=requested.cpuset_mems or current.cpuset_mems,
        hugepage_limits={**current.hugepage_limits, **requested.hugepage_limits},
        unified={**current.unified, **requested.unified},
        memory_swap_limit_in_bytes=requested.memory_swap_limit_in_bytes or current.memory_swap_limit_in_bytes,
    )


def total(containers: Resources, overhead: Resources) -> Resources:
    """Return a pod's limits: linux.resources (those of its containers together) plus linux.overhead.

    A resource that has no limit for the containers has none for the pod either.
    """
    period = containers.cpu_period or overhead.cpu_period
    quota = containers.cpu_quota
    if quota > 0 and overhead.cpu_quota > 0:
        quota += overhead.cpu_quota * (period or 1) // (overhead.cpu_period or period or 1)
    memory = containers.memory_limit_in_bytes
    if memory:
        memory += overhead.memory_limit_in_bytes
    return replace(
        containers, cpu_quota=max(quota, 0), cpu_period=period if quota > 0 else 0,
        cpu_shares=containers.cpu_shares + overhead.cpu_shares, memory_limit_in_bytes=memory,
        memory_swap_limit_in_bytes=0, oom_score_adj=0, hugepage_limits={}, unified=dict(containers.unified),
    )  # fmt: skip


def check_swap(merged: Resources) -> None:
    """Raise InvalidInput if memory and swap together would be less than memory alone."""
    swap, memory = merged.memory_swap_limit_in_bytes, merged.memory_limit_in_bytes
    if 0 < swap < memory:
        raise InvalidInput(f"{_FIELD}.memory_swap_limit_in_bytes: {swap} is less than memory_limit_in_bytes, {memory}")


def check_least(requested: Resources, least: int, handler: str) -> None:
    """Raise InvalidInput for a memory limit below `least` bytes, with which the OCI runtime could start no container.

    `handler` is the runtime handler's name, for the error.
    """
    if 0 < requested.memory_limit_in_bytes < least:
        raise InvalidInput(
            f"{_FIELD}.memory_limit_in_bytes: {requested.memory_limit_in_bytes} is below the least that runtime handler"
            f" {handler!r} needs, {least}"
        )


def check_use(requested: Resources, used: int) -> None:
    """Raise FailedPrecondition for a memory limit below the `used` bytes.

    The kernel would kill processes of the container, or refuse the limit when others are set already.
    """
    limit = requested.memory_limit_in_bytes
    if 0 < limit < used:
        raise FailedPrecondition(f"{_FIELD}.memory_limit_in_bytes: {limit} is below the current use of {used} bytes")


def check_sets(requested: Resources, cpus: frozenset[int] | None, mems: frozenset[int] | None) -> None:
    """Raise InvalidInput for a CPU or memory node that is not among the host's `cpus` or `mems`.

    None stands for a host that does not list them: then nothing is checked.
    """
    sets = (("cpuset_cpus", requested.cpuset_cpus, cpus), ("cpuset_mems", requested.cpuset_mems, mems))
    for name, text, available in sets:
        if available is None:
            continue
        for first, last in _ranges(text):
            if last < first or last > max(available, default=-1) or not available.issuperset(range(first, last + 1)):
                raise InvalidInput(f"{_FIELD}.{name}: the host has not all of {text[:64]!r}")


def numbers(text: str) -> frozenset[int]:
    """Return the numbers of a list such as `0-3,7`, as the kernel writes it."""
    return frozenset(number for first, last in _ranges(text.strip()) for number in range(first, last + 1))


def _ranges(text: str) -> list[tuple[int, int]]:
    try:
        ends = [part.partition("-") for part in text.split(",") if part]
        return [(int(first), int(last or first)) for first, _, last in ends]
    except ValueError as error:
        raise InvalidInput(f"{_FIELD}: {text[:64]!r} is not a list of numbers and ranges") from error


def section(requested: Resources, support: Support) -> dict[str, object]:
    """Return the parts of the OCI `linux.resources` that are limits of the CRI; what the host lacks is left out."""
    found: dict[str, object] = {}
    cpu: dict[str, object] = {}
    if "cpu" in support.controllers:  # linux.resources.cpu: cpu_shares, cpu_quota, cpu_period
        cpu |= {"shares": requested.cpu_shares, "quota": requested.cpu_quota, "period": requested.cpu_period}
    if "cpuset" in support.controllers:  # cpuset_cpus, cpuset_mems
        cpu |= {"cpus": requested.cpuset_cpus, "mems": requested.cpuset_mems}
    if given := {name: value for name, value in cpu.items() if value}:
        found["cpu"] = given
    if requested.memory_limit_in_bytes and "memory" in support.controllers:
        memory = {"limit": requested.memory_limit_in_bytes}  # linux.resources.memory.limit: memory_limit_in_bytes
        if support.swap:
            memory["swap"] = _swap(requested)  # linux.resources.memory.swap: memory_swap_limit_in_bytes
        found["memory"] = memory
    if requested.hugepage_limits and "hugetlb" in support.controllers:  # hugepage_limits
        pages = requested.hugepage_limits.items()
        found["hugepageLimits"] = [{"pageSize": size, "limit": limit} for size, limit in pages]
    if requested.unified:  # unified
        found["unified"] = dict(requested.unified)
        _check_unified(support)
    return found


def left_out(requested: Resources, support: Support) -> tuple[str, ...]:
    """Return the requested limits that the host cannot keep, each with the reason, for the log."""
    notes = []
    if requested.hugepage_limits and "hugetlb" not in support.controllers:
        notes.append("hugepage_limits: the host has no hugetlb controller")
    if requested.memory_swap_limit_in_bytes and not support.swap:
        notes.append("memory_swap_limit_in_bytes: the host does not account swap")
    needed = {
        "cpu": bool(requested.cpu_shares or requested.cpu_quota or requested.cpu_period),
        "memory": bool(requested.memory_limit_in_bytes),
        "cpuset": bool(requested.cpuset_cpus or requested.cpuset_mems),
    }
    notes += [
        f"{name}: the host has no such controller"
        for name, given in needed.items()
        if given and name not in support.controllers
    ]
    return tuple(notes)


def writes(requested: Resources, merged: Resources, support: Support) -> tuple[Write, ...]:
    """Return the files of a running container's cgroup to write for an update; `merged` holds afterwards.

    The order suits limits that become smaller. If one grows, the kernel refuses some of these files at first, and
    accepts them once the others are written.
    """
    check_swap(merged)
    found = [*_cpu(requested, merged, support), *_memory(requested, merged, support)]
    found += [
        Write(controller="cpuset", file=name, value=value)
        for name, value in (("cpuset.cpus", requested.cpuset_cpus), ("cpuset.mems", requested.cpuset_mems))
        if value
    ]
    suffix = "max" if support.unified else "limit_in_bytes"
    found += [
        Write(controller="hugetlb", file=f"hugetlb.{size}.{suffix}", value=str(limit))
        for size, limit in requested.hugepage_limits.items()
    ]
    if requested.unified:
        _check_unified(support)
    found += [
        Write(controller=file.partition(".")[0], file=file, value=value)
        for file, value in sorted(requested.unified.items())
    ]
    return tuple(write for write in found if write.controller in support.controllers)


def _check_unified(support: Support) -> None:
    if not support.unified:
        raise InvalidInput(f"{_FIELD}.unified: this host has no cgroup v2")


def _cpu(requested: Resources, merged: Resources, support: Support) -> list[Write]:
    found = []
    if support.unified:
        if requested.cpu_shares:
            found.append(Write(controller="cpu", file="cpu.weight", value=str(weight(requested.cpu_shares))))
        if requested.cpu_quota or requested.cpu_period:
            quota = str(merged.cpu_quota) if merged.cpu_quota > 0 else "max"
            found.append(Write(controller="cpu", file="cpu.max", value=f"{quota} {merged.cpu_period or _PERIOD}"))
        return found
    values = {
        "cpu.shares": requested.cpu_shares,
        "cpu.cfs_period_us": requested.cpu_period,
        "cpu.cfs_quota_us": requested.cpu_quota,
    }
    return [Write(controller="cpu", file=name, value=str(value)) for name, value in values.items() if value]


def _memory(requested: Resources, merged: Resources, support: Support) -> list[Write]:
    if not requested.memory_limit_in_bytes and not requested.memory_swap_limit_in_bytes:
        return []
    memory, swap = merged.memory_limit_in_bytes, _swap(merged)
    if support.unified:
        beyond = "max" if swap < 0 else str(swap - memory)
        values = {"memory.max": str(memory) if memory else "", "memory.swap.max": beyond if memory else ""}
    else:
        values = {
            "memory.limit_in_bytes": str(memory) if memory else "",
            "memory.memsw.limit_in_bytes": str(swap) if memory else "",
        }
    return [
        Write(controller="memory", file=name, value=value)
        for name, value in values.items()
        if value and (support.swap or "sw" not in name)
    ]


def weight(shares: int) -> int:
    """Return the weight of cgroup v2 (1 to 10000) for the shares of v1 (2 to 262144), as OCI runtimes convert them."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def _swap(limits: Resources) -> int:
    """Return the limit of memory and swap together, in bytes: no swap if none is set."""
    return limits.memory_swap_limit_in_bytes or limits.memory_limit_in_bytes
