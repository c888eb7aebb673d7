"""Folders that workers find ready, with owner and mode: a pure plan and the few lines that carry it out.

The supervisor makes them while it still has all privileges, before any worker starts; it does so at each start, which
also corrects an owner or mode that was changed.

- A worker's folder on the bus belongs to the worker's user and to the front's group, with set-group-id: the socket
  that the worker makes there belongs to that group, so only its callers can enter and connect.
- The CRI socket: gRPC binds by path and cannot take over a socket that is bound already, and the front may not
  write in <run>. So it binds `<run>/front/crisp.sock`, and the path of the configuration is a symbolic link to it,
  made here. Only root and the front enter `<run>/front`.
- A folder below one that an unprivileged worker may write is opened without following links.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kernel.config.sections import Config
from kernel.errors import FailedPrecondition
from kernel.supervisor.privileges.workers import FRONT, IMAGE, PROCESSES, STREAM


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """One folder. `below` is relative to `base`, which may be reached through links."""

    base: Path
    below: str
    mode: int
    user: str = "root"
    group: str = "root"
    """The user whose primary group owns the folder."""


def plan_folders(config: Config) -> tuple[Folder, ...]:
    """Return all folders, parents first."""
    paths, front, image, stream = config.paths, FRONT.user(config), IMAGE.user(config), STREAM.user(config)
    run, root = paths.run, paths.root
    bus = tuple(
        Folder(base=run, below=f"bus/{one.name}", mode=0o2750, user=one.user(config), group=front)
        for one in PROCESSES
        if one.contract
    )
    return (
        Folder(base=run, below="", mode=0o711),  # workers of other users traverse it
        Folder(base=run, below="bus", mode=0o711),
        *bus,
        Folder(base=run, below="front", mode=0o750, user=front, group=front),
        Folder(base=run, below="stream", mode=0o700, user=stream, group=stream),  # only root sends descriptors
        Folder(base=run, below="netns", mode=0o700),
        Folder(base=run, below="runtime", mode=0o711),  # roots of user namespaces traverse it to their pod's folder
        Folder(base=root, below="", mode=0o711),  # the image worker traverses it
        Folder(base=root, below="state", mode=0o700),
        Folder(base=root, below="network", mode=0o700),
        Folder(base=root, below="storage", mode=0o711),  # roots of user namespaces traverse it
        Folder(base=paths.image_store, below="", mode=0o711),  # as above
        Folder(base=paths.image_store, below="layers", mode=0o700),  # set-user-id files are not for the host's users
        Folder(base=root, below="storage/outgoing", mode=0o700),
        Folder(base=root, below="storage/containers", mode=0o711),  # as above; each one's folder has its own mode
        Folder(base=root, below="image", mode=0o700, user=image, group=image),
        Folder(base=root, below="image/blobs", mode=0o700, user=image, group=image),
        Folder(base=root, below="image/blobs/sha256", mode=0o700, user=image, group=image),
        Folder(base=root, below="image/incoming", mode=0o750, user="root", group=image),  # only root writes
    )


def make(config: Config, ids: Callable[[str], tuple[int, int]]) -> None:
    """Make all folders, or correct their owners and modes. `ids` returns a user's number and primary group."""
    for folder in plan_folders(config):
        uid, gid = ids(folder.user)[0], ids(folder.group)[1]
        _make(folder, uid, gid)


def link_socket(config: Config) -> None:
    """Make the configured path of the CRI socket a link to the socket that the front binds."""
    link, target = config.paths.socket, config.paths.front_socket
    if link == target:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        kind = os.lstat(link).st_mode
    except FileNotFoundError:
        kind = 0
    if kind and not (stat.S_ISLNK(kind) or stat.S_ISSOCK(kind)):
        raise FailedPrecondition(f"{link} is neither a socket nor a link to one", hint="move it away, or set `socket`")
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.rename(link)  # replaced in one step: a client that connects meanwhile finds the old link or the new one


def _make(folder: Folder, uid: int, gid: int) -> None:
    folder.base.mkdir(parents=True, exist_ok=True)
    current = os.open(folder.base, os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in Path(folder.below).parts:
            below = _open(current, part, folder)
            os.close(current)
            current = below
        state = os.fstat(current)
        if (state.st_uid, state.st_gid) != (uid, gid):
            os.fchown(current, uid, gid)
        if stat.S_IMODE(os.fstat(current).st_mode) != folder.mode:
            os.fchmod(current, folder.mode)
    finally:
        os.close(current)


def _open(parent: int, part: str, folder: Folder) -> int:
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(part, flags, dir_fd=parent)
    except FileNotFoundError:
        os.mkdir(part, 0o700, dir_fd=parent)
        return os.open(part, flags, dir_fd=parent)
    except OSError as error:
        raise FailedPrecondition(
            f"{folder.base / folder.below} cannot be made: {part!r} is no folder", hint="move it away"
        ) from error
