"""Checks that the sources of a request's mounts answer, before anything looks them up.

Run by the runtime worker. A lookup on a file system that hangs (a dead network mount) cannot be ended, so it is first
tried by a process that can be left behind. Only sources on file systems that could hang are tried.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Iterable

from kernel.contracts.runtime import CreateRequest
from kernel.errors import CrispError, FailedPrecondition
from kernel.host import process
from kernel.host.aio import Deadline
from services.runtime.namespaces import mount_table
from services.runtime.namespaces.mount_table import HostMount

_ANSWER_SECONDS = 5.0
_AT_ONCE = 16
"""The most processes at a time for one request."""
_LINKS = 40
"""Most symbolic links on the way to a path, as the kernel's own limit (path_resolution(7))."""


async def wait_answers(request: CreateRequest, deadline: Deadline) -> None:
    """Wait until each mounts[].host_path that could hang has answered; FailedPrecondition names one that does not."""
    wanted = [(index, mount.host_path) for index, mount in enumerate(request.mounts) if mount.image_volume is None]
    if not wanted:
        return
    doubtful = await asyncio.to_thread(_doubtful, wanted)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def look(index: int, path: str, mount: HostMount) -> None:
        async with gate:
            if not await _answers(path, deadline):
                raise FailedPrecondition(
                    f"mounts[{index}].host_path: {path!r} does not answer within {_ANSWER_SECONDS:.0f} seconds",
                    hint=f"it lies on {mount.point}, of the type {mount.fstype}, which hangs",
                )

    # every process is waited for, so that none outlives the call; a bug is raised before a source that hangs
    results = await asyncio.gather(*(look(*one) for one in doubtful), return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    for error in sorted(errors, key=lambda error: isinstance(error, CrispError)):
        raise error


def _doubtful(wanted: list[tuple[int, str]]) -> list[tuple[int, str, HostMount]]:
    """Return the paths that are on a file system which could hang, each with that mount."""
    slow = {mount.point: mount for mount in mount_table.slow(mount_table.read())}
    return [(index, path, slow[point]) for index, path in wanted if (point := entered(path, slow))] if slow else []


async def _answers(path: str, deadline: Deadline) -> bool:
    """Return whether the path can be looked up. A process that hangs is killed and left behind: it may not end yet."""
    started = process.launch(["stat", "-L", "--format=", "--", path])
    try:
        async with asyncio.timeout(max(deadline.earlier(_ANSWER_SECONDS).remaining(), 0)):
            await started.wait()
    except TimeoutError:
        return False
    finally:
        if started.returncode is None:
            process.kill_group(started)
    return True


def entered(path: str, points: Iterable[str]) -> str:
    """Return the first of the mount points that a lookup of the path would enter, without entering it; empty if none.

    Symbolic links are followed by hand, up to such a mount point.
    """
    at = ""
    rest = deque(path.split("/"))
    known = set(points)
    links = 0
    while rest:
        part = rest.popleft()
        if part in ("", "."):
            continue
        if part == "..":
            at = at.rpartition("/")[0]
            continue
        step = f"{at}/{part}"
        if step in known:
            return step
        try:
            target = os.readlink(step)
        except OSError:  # no link; or nothing is there, and then there is nothing to enter either
            at = step
            continue
        links += 1
        if links > _LINKS:
            return ""
        rest.extendleft(reversed(target.split("/")))
        at = "" if target.startswith("/") else at
    return ""
