"""Shared by both kinds of exec: the specification of the process, and killing all processes that a command started.

Run by the runtime worker. Rule kept: only processes in the container's own cgroup are killed.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from kernel.host import pidfd
from services.runtime.cgroups.cgroup_tree import Cgroups
from services.runtime.reaper import descendants

_KILL_ROUNDS = 20
"""Rounds in which the processes that a command started are looked for, as they may fork meanwhile."""
_END_SECONDS = 5.0
"""Seconds that they may take to end after SIGKILL, in each round."""


def in_memory(content: bytes) -> int:
    """Return a descriptor of a file that holds `content`, has no name and cannot be written any more.

    A file on a disk would cost more than everything else here.
    """
    fd = os.memfd_create("exec", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return fd


def written_pid(pid_file: Path) -> int:
    """Return the pid of the command that the OCI runtime has written; 0 if it has not started it yet."""
    with suppress(OSError, ValueError):  # it is not there, or not yet written
        return int(pid_file.read_text())
    return 0


async def kill_tree(cgroups: Cgroups, cgroup: str, roots: set[int]) -> None:
    """Kill a container's processes that are `roots` (processes, groups or sessions) or that these started."""

    def look() -> list[int]:
        return sorted(descendants.grown(roots, descendants.read(cgroups.processes(cgroup))))

    for _ in range(_KILL_ROUNDS):
        found = await asyncio.to_thread(look)
        if not found:
            break
        roots |= set(found)  # orphans of the next round have these as groups or sessions
        await pidfd.kill(found, _END_SECONDS)
