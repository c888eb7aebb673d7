"""Rows of usage from two readings: an earlier one, from which rates are computed, and the current one. Pure.

CPU is in percent of one CPU: two busy threads make 200. None means that a value is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernel.cli.output import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReading:
    """One reading of one of crisp's processes."""

    name: str
    state: str
    pid: int
    """0 while it is down."""
    started: float
    """Seconds since 1970; with the pid it identifies the process."""
    at: float
    """When CPU time was read, in seconds of a clock that only runs forward."""
    cpu: float | None
    """CPU time used, in seconds."""
    memory: int
    """Its proportional share of memory (PSS), in bytes."""
    threads: int | None
    open_files: int | None
    restarts: int
    uptime: float
    """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupReading:
    """One reading of a pod or container. Counters start when its cgroup or interface is made."""

    id: str
    name: str
    at: int
    """When CPU time was read, in nanoseconds since 1970."""
    cpu: int | None = None
    """CPU time used, in nanoseconds."""
    nano_cores: int | None = None
    """The daemon's own CPU rate: nanoseconds per second."""
    memory: int | None = None
    """The working set, in bytes."""
    writable_layer: int | None = None
    """Bytes."""
    processes: int | None = None
    network_at: int = 0
    """When the network was read, in nanoseconds since 1970."""
    received: int | None = None
    """Bytes on all interfaces."""
    sent: int | None = None
    """Bytes on all interfaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodReading:
    """One reading of a pod and its containers."""

    namespace: str
    pod: GroupReading
    containers: tuple[GroupReading, ...] = ()


def process_rows(before: Sequence[ProcessReading], now: Sequence[ProcessReading]) -> list[Row]:
    """Return a row for each process of the current reading, in its order."""
    earlier = {(one.pid, one.started): one for one in before}
    return [_process_row(earlier.get((one.pid, one.started)), one) for one in now]


def pod_rows(before: Sequence[PodReading], now: Sequence[PodReading]) -> list[Row]:
    """Return a row for each pod of the current reading; its key `containers` holds the rows of its containers."""
    earlier = {usage.id: usage for one in before for usage in (one.pod, *one.containers)}
    return [
        {
            "namespace": one.namespace,
            **_usage_row(earlier.get(one.pod.id), one.pod),
            "containers": [_usage_row(earlier.get(usage.id), usage) for usage in one.containers],
        }
        for one in now
    ]


def rate(before: float | None, now: float | None, seconds: float) -> float | None:
    """Return the growth of a counter per second; None if it is not known, or if the counter has started over."""
    if before is None or now is None or seconds <= 0 or now < before:
        return None
    return (now - before) / seconds


def total(rows: Sequence[Row], key: str) -> float:
    """Return the sum of a column's known values."""
    return sum(value for row in rows if isinstance(value := row.get(key), int | float))


def _process_row(before: ProcessReading | None, now: ProcessReading) -> Row:
    cores = rate(before.cpu, now.cpu, now.at - before.at) if before else None
    return {
        "name": now.name,
        "state": now.state,
        "pid": now.pid,
        "cpu": _percent(cores),
        "memory": now.memory,
        "threads": now.threads,
        "open_files": now.open_files,
        "restarts": now.restarts,
        "uptime": now.uptime,
    }


def _usage_row(before: GroupReading | None, now: GroupReading) -> Mapping[str, object]:
    cores = received = sent = None
    if before is not None:
        cores = rate(before.cpu, now.cpu, now.at - before.at)  # nanoseconds per nanosecond
        seconds = (now.network_at - before.network_at) / 1e9
        received, sent = rate(before.received, now.received, seconds), rate(before.sent, now.sent, seconds)
    if cores is None and now.nano_cores is not None:
        cores = now.nano_cores / 1e9  # the daemon has not read again in between: use its last rate
    return {
        "id": now.id,
        "name": now.name,
        "cpu": _percent(cores),
        "memory": now.memory,
        "writable_layer": now.writable_layer,
        "processes": now.processes,
        "received": now.received,
        "sent": now.sent,
        "receive_rate": _whole(received),
        "send_rate": _whole(sent),
    }


def _percent(cores: float | None) -> float | None:
    return None if cores is None else round(cores * 100, 1)


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
