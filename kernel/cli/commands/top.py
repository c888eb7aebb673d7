"""`crisp top`: CPU, memory and more of the daemon's processes, of pods and of containers.

On a terminal it is a live view; otherwise two readings are made and printed once.
"""

from __future__ import annotations

import os
import threading
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass

from kernel.cli.context import Context
from kernel.cli.daemon_client import ask_supervisor
from kernel.cli.exit_status import Exit
from kernel.cli.usage import pods, processes, rows, screen
from kernel.cli.usage.view import POD_COLUMNS, PROCESS_COLUMNS, View
from kernel.contracts.definition import Nothing
from kernel.contracts.supervisor import WORKERS
from kernel.cri.generated import cri_pb2
from kernel.errors import CrispError

_SECONDS = 10
"""Seconds that the front may take to answer."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The usage read at one moment."""

    processes: Sequence[rows.ProcessReading] = ()
    pods: Sequence[rows.PodReading] = ()
    problem: str = ""
    """The reason why a part of the reading is missing."""


def top(context: Context, options: Namespace) -> Exit:
    """Show usage until the user ends it, or print it once."""
    last = read(context)
    watched = context.out.terminal and os.isatty(0) and screen.possible()
    live = watched and not options.once and not context.out.json

    def again() -> screen.Rows:
        nonlocal last
        before, last = last, read(context, began=True)
        return _rows(before, last)

    if live:
        first: list[screen.Rows] = [_rows(Reading(), last)]  # at once, without the rates that need two readings
        screen.run(lambda: first.pop() if first else again(), options.interval, 0)
        return Exit.OK
    threading.Event().wait(options.interval)  # never set: the wait only sleeps, and a signal ends it
    found = again()
    if context.out.json:
        context.out.document({"processes": list(found.processes), "pods": list(found.pods)})
    else:
        context.out.table(PROCESS_COLUMNS, found.processes)
        context.out.line("")
        context.out.table(POD_COLUMNS, View().pods(found.pods))
    if found.problem:
        context.out.note(f"crisp: {found.problem}")
    return Exit.UNHEALTHY if found.problem else Exit.OK


def read(context: Context, *, began: bool = False) -> Reading:
    """Read once. If the front does not answer, the reading has the reason and no pods.

    If the supervisor does not answer, the reading has the reason and no processes once the view has `began`; before,
    the error is raised: NotReachable without a daemon.
    """
    problems: list[str] = []
    workers: Sequence[rows.ProcessReading] = ()
    found: Sequence[rows.PodReading] = ()
    try:
        workers = tuple(processes.readings(ask_supervisor(context.paths, WORKERS, Nothing()).workers))
    except CrispError as error:
        if not began:
            raise
        problems.append(str(error))
    try:
        daemon = context.daemon
        request = cri_pb2.ListPodSandboxStatsRequest()
        found = pods.readings(daemon.call(daemon.runtime.ListPodSandboxStats, request, _SECONDS).stats)
    except CrispError as error:
        problems.append(str(error))
    return Reading(workers, found, "; ".join(problems))


def _rows(before: Reading, now: Reading) -> screen.Rows:
    return screen.Rows(
        rows.process_rows(before.processes, now.processes), rows.pod_rows(before.pods, now.pods), now.problem
    )
