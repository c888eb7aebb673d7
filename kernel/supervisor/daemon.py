"""The supervisor's process from its first line to its last: folders, state, privileges, then the loop.

The spawner forks it. All that needs root's capabilities is done before `privileges.enforce` takes them away.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kernel.bus.worker import Server
from kernel.config.sections import Config
from kernel.contracts.supervisor import CONTRACT
from kernel.errors import FailedPrecondition
from kernel.host.aio import report_lost_errors
from kernel.state.store import Store
from kernel.state.thread import StateThread
from kernel.supervisor.methods import Methods
from kernel.supervisor.privileges import enforce, folders
from kernel.supervisor.privileges.workers import SUPERVISOR
from kernel.supervisor.supervise import Supervisor, write_effective


def run(config: Config, end: socket.socket, children: dict[str, int], source: Path) -> int:
    """Run the supervisor's process from beginning to end and return its exit status.

    `end`: the link to the spawner. `children`: the pids of workers that it has forked and not reaped, by name.
    `source`: the file that the administrator wrote.
    """
    paths = config.paths
    folders.make(config, _ids)
    folders.link_socket(config)
    lock = _only_one(paths.run / "daemon.lock")
    store = Store.open(paths.state_db)
    write_effective(config)
    netns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    enforce.apply(SUPERVISOR, config)
    if sys.version_info < (3, 12):
        asyncio.get_event_loop_policy().set_child_watcher(asyncio.PidfdChildWatcher())
    try:
        asyncio.run(_live(config, end, children, netns, store, source))
    finally:
        os.close(lock)
    return 0


async def _live(
    config: Config, end: socket.socket, children: dict[str, int], netns: int, store: Store, source: Path
) -> None:
    report_lost_errors()
    with ThreadPoolExecutor(1, "state") as thread:
        state = StateThread(store, thread)
        supervisor = Supervisor(config, end, children, netns, source, state)
        server = Server(CONTRACT, Methods(supervisor, state), config.paths.bus("supervisor"))
        supervisor.adopt()
        await supervisor.run()
        await server.drain()
        await server.close()
        await supervisor.close()
        await state.close()


def _only_one(path: Path) -> int:
    """Lock the run folder, so that this is the only daemon in it. Return the descriptor of the lock."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 32).decode(errors="replace").strip()
        raise FailedPrecondition(
            f"another crisp daemon serves {path.parent} (supervisor pid {holder})",
            hint="stop it, or give this one a `run` and `root` of its own",
        ) from None
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    return fd


def _ids(user: str) -> tuple[int, int]:
    found = enforce.account(user)
    return found.pw_uid, found.pw_gid
