"""Readings of crisp's own processes: what the supervisor reports of them, and what psutil reads from /proc."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import psutil

from kernel.cli.usage.rows import ProcessReading
from kernel.contracts.supervisor import WorkerStatus


@dataclass(frozen=True, slots=True)
class Figures:
    """A process's figures from /proc."""

    started: float
    """Seconds since 1970."""
    at: float
    """When CPU time was read, in seconds of the monotonic clock."""
    cpu: float
    """CPU time used, in seconds."""
    threads: int
    open_files: int | None
    """None if reading them is not permitted."""


def readings(workers: Iterable[WorkerStatus]) -> Iterator[ProcessReading]:
    """Yield a reading of each process. One that has ended since the supervisor listed it is left out."""
    for worker in workers:
        found = figures(worker.pid)
        if worker.pid and found is None:
            continue
        yield ProcessReading(
            name=worker.name,
            state=worker.state,
            pid=worker.pid,
            started=found.started if found else 0.0,
            at=found.at if found else 0.0,
            cpu=found.cpu if found else None,
            memory=worker.memory,
            threads=found.threads if found else None,
            open_files=found.open_files if found else None,
            restarts=worker.restarts,
            uptime=worker.uptime,
        )


def figures(pid: int) -> Figures | None:
    """Return a process's figures from /proc; None if there is no process with this pid, or if it has ended."""
    if not pid:  # psutil takes 0 for the kernel's idle process
        return None
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            times = process.cpu_times()
            return Figures(
                started=process.create_time(),
                at=time.monotonic(),
                cpu=times.user + times.system,
                threads=process.num_threads(),
                open_files=_open_files(process),
            )
    except psutil.NoSuchProcess:
        return None


def _open_files(process: psutil.Process) -> int | None:
    try:
        return process.num_fds()
    except psutil.AccessDenied:
        return None
