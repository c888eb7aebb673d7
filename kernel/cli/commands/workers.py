"""`crisp status`, `workers`, `restart`, `reload` and `shutdown`: the daemon and its processes."""

from __future__ import annotations

import json
import os
import select
import time
from argparse import Namespace
from collections.abc import Iterable

from msgspec import structs

from kernel.cli.context import Context
from kernel.cli.daemon_client import ask_supervisor
from kernel.cli.exit_status import Exit
from kernel.cli.output import Column, Row, duration, size, state_style
from kernel.cli.usage.processes import figures
from kernel.contracts.definition import Nothing
from kernel.contracts.supervisor import RELOAD, RESTART, SHUTDOWN, WORKERS, RestartRequest, WorkerStatus
from kernel.errors import CrispError, DeadlineExceeded
from kernel.supervisor.privileges.workers import CAPABILITIES
from kernel.supervisor.processes import roster


def _capabilities(value: object) -> str:
    """Return the names in lower case; for a nearly full set the names that are missing."""
    names = value if isinstance(value, list) else []
    missing = [name for name in CAPABILITIES if name not in names]
    if not missing:
        return "all"
    if len(missing) < len(CAPABILITIES) // 3:
        return f"all but {','.join(missing).lower()}"
    return ",".join(names).lower() or "none"


def _yes(value: object) -> str:
    return "yes" if value else "no"


COLUMNS = (
    Column("NAME", "name"),
    Column("STATE", "state", style=state_style),
    Column("PID", "pid", lambda pid: str(pid or "-"), right=True),
    Column("UID", "uid", right=True),
    Column("CAPABILITIES", "capabilities", _capabilities),
    Column("SECCOMP", "seccomp"),
    Column("NO_NEW_PRIVS", "no_new_privs", _yes),
    Column("MEMORY", "memory", size, right=True),
    Column("RESTARTS", "restarts", right=True),
    Column("UPTIME", "uptime", duration, right=True),
)


def row(worker: WorkerStatus) -> Row:
    """Return a worker's row for the table and JSON.

    JSON also has CPU time in seconds, threads and open files; they are null if the process has ended.
    """
    found = figures(worker.pid)
    return {
        **structs.asdict(worker),
        "capabilities": list(worker.capabilities),
        "cpu_seconds": found.cpu if found else None,
        "threads": found.threads if found else None,
        "open_files": found.open_files if found else None,
    }


def workers(context: Context, _: Namespace) -> Exit:
    """List the daemon's processes."""
    found = ask_supervisor(context.paths, WORKERS, Nothing()).workers
    context.out.table(COLUMNS, [row(worker) for worker in found])
    for worker in found:
        if worker.reason and not context.out.json:
            context.out.note(f"{worker.name}: {worker.reason}")
    return Exit.OK


def restart(context: Context, options: Namespace) -> Exit:
    """Restart one process."""
    done = ask_supervisor(context.paths, RESTART, RestartRequest(name=options.name))
    if context.out.json:
        context.out.document({"name": options.name, "pid": done.pid})
    else:
        context.out.line(f"{options.name} serves again as process {done.pid}")
    return Exit.OK


def reload(context: Context, _: Namespace) -> Exit:
    """Have the daemon read its configuration again."""
    done = ask_supervisor(context.paths, RELOAD, Nothing())
    if context.out.json:
        context.out.document({"changed": list(done.changed), "restarted": list(done.restarted)})
    elif done.changed:
        context.out.line(f"changed: {', '.join(done.changed)}; restarted: {', '.join(done.restarted)}")
    else:
        context.out.line("nothing has changed")
    return Exit.OK


def shutdown(context: Context, options: Namespace) -> Exit:
    """End the daemon; containers run on."""
    known = roster.load(context.paths.run / "workers.json").values()
    ends = [pidfd for entry in known if (pidfd := roster.adopt(entry)) is not None]
    try:
        ask_supervisor(context.paths, SHUTDOWN, Nothing())
        ended = wait_for_ends(ends, options.wait) if options.wait else False
    finally:
        for pidfd in ends:
            os.close(pidfd)
    if context.out.json:
        context.out.document({"ending": not ended})
    else:
        context.out.line(f"the daemon {'has ended' if ended else 'is ending'}; containers run on")
    return Exit.OK


def wait_for_ends(pidfds: Iterable[int], seconds: float) -> bool:
    """Return True once all these processes have ended; raises DeadlineExceeded if they take longer."""
    until = time.monotonic() + seconds
    left = select.poll()
    count = 0
    for pidfd in pidfds:
        left.register(pidfd, select.POLLIN)
        count += 1
    while count:
        ended = left.poll(max(until - time.monotonic(), 0) * 1000)
        if not ended:
            raise DeadlineExceeded(f"{count} processes of the daemon have not ended within {seconds:g} s")
        for pidfd, _ in ended:
            left.unregister(pidfd)
            count -= 1
    return True


def status(context: Context, _: Namespace) -> Exit:
    """Show whether the node is ready for pods, and the reason if not."""
    from kernel.cri.generated import cri_pb2

    daemon = context.daemon
    reply = daemon.call(daemon.runtime.Status, cri_pb2.StatusRequest(verbose=True), 10)
    version = daemon.call(daemon.runtime.Version, cri_pb2.VersionRequest(), 10)
    conditions = [
        {"type": found.type, "status": found.status, "reason": found.reason, "message": found.message}
        for found in reply.status.conditions
    ]
    down = _down(context)
    driver = json.loads(reply.info["storage"])["driver"]
    healthy = all(found.status for found in reply.status.conditions) and not down
    if context.out.json:
        context.out.document(
            {
                "healthy": healthy,
                "version": version.runtime_version,
                "conditions": conditions,
                "handlers": [handler.name for handler in reply.runtime_handlers if handler.name],
                "storage_driver": driver,
                "down": down,
            }
        )
    else:
        context.out.line(f"{version.runtime_name} {version.runtime_version}, CRI {version.runtime_api_version}")
        for found in reply.status.conditions:
            reason = f": {found.reason}: {found.message}" if not found.status else ""
            context.out.line(f"{found.type:<13} {_yes(found.status)}{reason}")
        if driver == "vfs":
            context.out.line(f"{'Storage':<13} vfs: each container gets a copy of its image, see the log")
        for name, reason in down.items():
            context.out.line(f"{name:<13} down: {reason}")
    return Exit.OK if healthy else Exit.UNHEALTHY


def _down(context: Context) -> dict[str, str]:
    """Return the reason of each process that is not ready; the supervisor's if it does not answer."""
    try:
        found = ask_supervisor(context.paths, WORKERS, Nothing()).workers
    except CrispError as error:
        return {"supervisor": str(error)}
    return {worker.name: worker.reason or worker.state for worker in found if worker.state != "ready"}
