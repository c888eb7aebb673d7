"""Makes a pod's user namespace, with the network, IPC and UTS namespaces that it owns.

Run by the runtime worker. The kernel lets only a process with one thread make a user namespace, so a throw-away child
does it (`unshare`, then `cat`, whose echo shows that the namespace is made). It ends once the maps are written and the
pins are mounted: no process stays. Both maps are written from outside, by the host's root, so that setgroups(2) works
inside.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kernel.contracts.oci import IdMap, IdRange
from kernel.errors import FailedPrecondition, Internal
from kernel.host import id_mapped, process, syscalls
from kernel.host.aio import Deadline
from services.runtime.namespaces import namespace_pins

LEAST_KERNEL = (6, 8)
"""The first release in which overlays of id-mapped layers can be made as storage makes them."""


@asynccontextmanager
async def child(kinds: tuple[str, ...], id_map: IdMap, deadline: Deadline) -> AsyncIterator[Path]:
    """Yield the folder of /proc with the namespaces of a child that has a user namespace, and the `kinds` owned by it.

    `kinds`: names as the options of unshare(1) have them. FailedPrecondition if this host makes no user namespaces.
    """
    command = ["unshare", "--user", *(f"--{kind}" for kind in kinds), "cat"]
    pipe = asyncio.subprocess.PIPE
    started = await process.start(command, stdin=pipe, stdout=pipe)
    assert started.stdin is not None  # it was started with both pipes
    assert started.stdout is not None
    try:
        async with deadline.limit("making a user namespace"):
            started.stdin.write(b"\n")
            if not await started.stdout.read(1):
                raise FailedPrecondition(
                    "a user namespace cannot be made", hint="see /proc/sys/user/max_user_namespaces and the kernel"
                )
        folder = Path(f"/proc/{started.pid}")
        try:
            (folder / "uid_map").write_text(_line(id_map.uids))
            (folder / "gid_map").write_text(_line(id_map.gids))
        except OSError as error:
            raise Internal(f"mapping of a user namespace: {error.strerror}") from error
        yield folder / "ns"
    finally:
        process.kill_group(started)
        await started.wait()


async def pin(pins: dict[str, Path], id_map: IdMap, deadline: Deadline) -> None:
    """Make a user namespace and those that it owns, and pin each; if all are pinned already, that is success.

    `pins`: paths by kind: `user`, and `net`, `ipc` or `uts`.
    """
    if all(namespace_pins.pinned(path) for path in pins.values()):
        return
    for path in pins.values():  # all must belong to the same user namespace
        namespace_pins.unmount(path)
    kinds = tuple(kind for kind in pins if kind != "user")
    async with child(kinds, id_map, deadline) as made:
        await asyncio.to_thread(_mount, made, pins)


def _mount(made: Path, pins: dict[str, Path]) -> None:
    try:
        for kind, path in pins.items():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            syscalls.mount(str(made / kind), path, flags=syscalls.MS_BIND)
    except OSError as error:
        raise Internal(f"namespaces of the pod: {error.filename}: {error.strerror}") from error


async def supported(folder: Path, deadline: Deadline) -> bool:
    """Return whether pods can have user namespaces: the kernel is new enough, and `folder` can be id-mapped."""
    if kernel_version(os.uname().release) < LEAST_KERNEL:
        return False
    one = IdRange(container_id=0, host_id=1, length=1)
    try:
        async with child((), IdMap(uids=one, gids=one), deadline) as made:
            return await asyncio.to_thread(_can_be_mapped, folder, made / "user")
    except FailedPrecondition:  # user namespaces are switched off
        return False


def kernel_version(release: str) -> tuple[int, int]:
    """Return the first two numbers of uname(2)'s release. Pure."""
    numbers = re.match(r"(\d+)(?:\.(\d+))?", release)
    return (int(numbers[1]), int(numbers[2] or 0)) if numbers else (0, 0)


def _can_be_mapped(folder: Path, namespace: Path) -> bool:
    try:
        fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.close(id_mapped.clone(folder, fd, recursive=False))
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ENOENT):
            return False
        raise Internal(f"folder {folder}: trying to id-map it: {error.strerror}") from error
    return True


def _line(ids: IdRange) -> str:
    return f"{ids.container_id} {ids.host_id} {ids.length}\n"
