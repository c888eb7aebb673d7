"""Limits of containers and pods: as the OCI specification says them, and as cgroup files on a running one. Pure.

Rules kept: a field that a request leaves at 0 or empty keeps what is held; a controller that the host lacks is left
out and named, never a failure; swap that nobody asked for stays off, as the peers have it.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from msgspec.structs import replace

from kernel.contracts.runtime import Resources
from kernel.errors import FailedPrecondition, InvalidInput

_FIELD = "linux.resources"


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """What of limits the host knows."""

    unified: bool
    """cgroup v2 and nothing else."""
    controllers: Set[str]
    swap: bool
    """Whether memory and swap together can be limited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One file of a cgroup."""

    controller: str
    file: str
    value: str


def merge(held: Resources, asked: Resources) -> Resources:
    """What holds after an update: what it leaves unset stays."""
    return Resources(
        cpu_period=asked.cpu_period or held.cpu_period,
        cpu_quota=asked.cpu_quota or held.cpu_quota,
        cpu_shares=asked.cpu_shares or held.cpu_shares,
        memory_limit_in_bytes=asked.memory_limit_in_bytes or held.memory_limit_in_bytes,
        oom_score_adj=asked.oom_score_adj or held.oom_score_adj,
        cpuset_cpus=asked.cpuset_cpus or held.cpuset_cpus,
        cpuset_mems=asked.cpuset_mems or held.cpuset_mems,
        hugepage_limits={**held.hugepage_limits, **asked.hugepage_limits},
        unified={**held.unified, **asked.unified},
        memory_swap_limit_in_bytes=asked.memory_swap_limit_in_bytes or held.memory_swap_limit_in_bytes,
    )


def total(one: Resources, overhead: Resources) -> Resources:
    """The limits of a pod: its containers' and its overhead's together. What the containers are not limited in, the
    pod is not either."""
    period = one.cpu_period or overhead.cpu_period
    quota = one.cpu_quota
    if quota > 0 and overhead.cpu_quota > 0:
        quota += overhead.cpu_quota * (period or 1) // (overhead.cpu_period or period or 1)
    memory = one.memory_limit_in_bytes + (overhead.memory_limit_in_bytes if one.memory_limit_in_bytes else 0)
    return replace(
        one, cpu_quota=max(quota, 0), cpu_period=period if quota > 0 else 0,
        cpu_shares=one.cpu_shares + overhead.cpu_shares, memory_limit_in_bytes=memory, memory_swap_limit_in_bytes=0,
        oom_score_adj=0, hugepage_limits={}, unified=dict(one.unified),
    )  # fmt: skip


def check_swap(held: Resources) -> None:
    """InvalidInput where memory and swap together would be less than memory alone."""
    swap, memory = held.memory_swap_limit_in_bytes, held.memory_limit_in_bytes
    if 0 < swap < memory:
        raise InvalidInput(f"{_FIELD}.memory_swap_limit_in_bytes: {swap} is less than memory_limit_in_bytes, {memory}")


def check_least(asked: Resources, least: int, handler: str) -> None:
    """InvalidInput for a memory limit in which the OCI runtime could not even start the container."""
    if 0 < asked.memory_limit_in_bytes < least:
        raise InvalidInput(
            f"{_FIELD}.memory_limit_in_bytes: {asked.memory_limit_in_bytes} is below the least that runtime handler"
            f" {handler!r} needs, {least}"
        )


def check_use(asked: Resources, used: int) -> None:
    """FailedPrecondition for a memory limit below what is used: the kernel would kill, or fail half-way."""
    limit = asked.memory_limit_in_bytes
    if 0 < limit < used:
        raise FailedPrecondition(f"{_FIELD}.memory_limit_in_bytes: {limit} is below the current use of {used} bytes")


def check_sets(asked: Resources, cpus: frozenset[int] | None, mems: frozenset[int] | None) -> None:
    """InvalidInput for a CPU or memory node that the host has not; None where the host does not say."""
    for name, text, there in (("cpuset_cpus", asked.cpuset_cpus, cpus), ("cpuset_mems", asked.cpuset_mems, mems)):
        if there is None:
            continue
        for first, last in _ranges(text):
            if last < first or last > max(there, default=-1) or not there.issuperset(range(first, last + 1)):
                raise InvalidInput(f"{_FIELD}.{name}: the host has not all of {text[:64]!r}")


def numbers(text: str) -> frozenset[int]:
    """The numbers of a list such as `0-3,7`, which the kernel wrote."""
    return frozenset(number for first, last in _ranges(text.strip()) for number in range(first, last + 1))


def _ranges(text: str) -> list[tuple[int, int]]:
    try:
        ends = [part.partition("-") for part in text.split(",") if part]
        return [(int(first), int(last or first)) for first, _, last in ends]
    except ValueError as error:
        raise InvalidInput(f"{_FIELD}: {text[:64]!r} is not a list of numbers and ranges") from error


def spec(asked: Resources, support: Support) -> dict[str, object]:
    """The part of OCI's `linux.resources` that the CRI's limits make; what the host lacks is left out."""
    found: dict[str, object] = {}
    cpu: dict[str, object] = {}
    if "cpu" in support.controllers:
        cpu |= {"shares": asked.cpu_shares, "quota": asked.cpu_quota, "period": asked.cpu_period}
    if "cpuset" in support.controllers:
        cpu |= {"cpus": asked.cpuset_cpus, "mems": asked.cpuset_mems}
    if given := {name: value for name, value in cpu.items() if value}:
        found["cpu"] = given
    if asked.memory_limit_in_bytes and "memory" in support.controllers:
        memory = {"limit": asked.memory_limit_in_bytes}
        if support.swap:
            memory["swap"] = _swap(asked)
        found["memory"] = memory
    if asked.hugepage_limits and "hugetlb" in support.controllers:
        found["hugepageLimits"] = [{"pageSize": size, "limit": limit} for size, limit in asked.hugepage_limits.items()]
    if asked.unified:
        found["unified"] = dict(asked.unified)
        if not support.unified:
            raise InvalidInput(f"{_FIELD}.unified: this host has no cgroup v2")
    return found


def left_out(asked: Resources, support: Support) -> tuple[str, ...]:
    """What of the limits the host cannot hold, for the log."""
    found = []
    if asked.hugepage_limits and "hugetlb" not in support.controllers:
        found.append("hugepage_limits: the host has no hugetlb controller")
    if asked.memory_swap_limit_in_bytes and not support.swap:
        found.append("memory_swap_limit_in_bytes: the host does not account swap")
    needs = {
        "cpu": bool(asked.cpu_shares or asked.cpu_quota or asked.cpu_period),
        "memory": bool(asked.memory_limit_in_bytes),
        "cpuset": bool(asked.cpuset_cpus or asked.cpuset_mems),
    }
    found += [
        f"{name}: the host has no such controller"
        for name, given in needs.items()
        if given and name not in support.controllers
    ]
    return tuple(found)


def writes(asked: Resources, held: Resources, support: Support) -> tuple[Write, ...]:
    """The files of a running container's cgroup to write; `held` is what holds afterwards.

    In the order that suits smaller limits; where limits grow, what the kernel refuses at first works at the end.
    """
    check_swap(held)
    found = [*_cpu(asked, held, support), *_memory(asked, held, support)]
    found += [
        Write(controller="cpuset", file=name, value=value)
        for name, value in (("cpuset.cpus", asked.cpuset_cpus), ("cpuset.mems", asked.cpuset_mems))
        if value
    ]
    suffix = "max" if support.unified else "limit_in_bytes"
    found += [
        Write(controller="hugetlb", file=f"hugetlb.{size}.{suffix}", value=str(limit))
        for size, limit in asked.hugepage_limits.items()
    ]
    if asked.unified and not support.unified:
        raise InvalidInput(f"{_FIELD}.unified: this host has no cgroup v2")
    found += [
        Write(controller=key.partition(".")[0], file=key, value=value) for key, value in sorted(asked.unified.items())
    ]
    return tuple(write for write in found if write.controller in support.controllers)


def _cpu(asked: Resources, held: Resources, support: Support) -> list[Write]:
    found = []
    if support.unified:
        if asked.cpu_shares:
            found.append(Write(controller="cpu", file="cpu.weight", value=str(weight(asked.cpu_shares))))
        if asked.cpu_quota or asked.cpu_period:
            quota = str(held.cpu_quota) if held.cpu_quota > 0 else "max"
            found.append(Write(controller="cpu", file="cpu.max", value=f"{quota} {held.cpu_period or 100_000}"))
        return found
    names = {
        "cpu.shares": asked.cpu_shares, "cpu.cfs_period_us": asked.cpu_period, "cpu.cfs_quota_us": asked.cpu_quota
    }  # fmt: skip
    return [Write(controller="cpu", file=name, value=str(value)) for name, value in names.items() if value]


def _memory(asked: Resources, held: Resources, support: Support) -> list[Write]:
    if not asked.memory_limit_in_bytes and not asked.memory_swap_limit_in_bytes:
        return []
    memory, swap = held.memory_limit_in_bytes, _swap(held)
    if support.unified:
        beyond = "max" if swap < 0 else str(swap - memory)
        names = {"memory.max": str(memory) if memory else "", "memory.swap.max": beyond if memory else ""}
    else:
        names = {
            "memory.limit_in_bytes": str(memory) if memory else "",
            "memory.memsw.limit_in_bytes": str(swap) if memory else "",
        }
    return [
        Write(controller="memory", file=name, value=value)
        for name, value in names.items()
        if value and (support.swap or "sw" not in name)
    ]


def weight(shares: int) -> int:
    """cgroup v2's weight (1 to 10000) for v1's shares (2 to 262144), as the OCI runtimes convert."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def _swap(asked: Resources) -> int:
    return asked.memory_swap_limit_in_bytes or asked.memory_limit_in_bytes
