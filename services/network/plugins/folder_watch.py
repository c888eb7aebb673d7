"""Notices that something in a set of folders appears, changes or vanishes, the folders themselves included.

inotify(7) cannot watch a folder that does not exist, so its nearest ancestor is watched instead. After every event all
watches are set again, so no state of theirs is kept. Not every file system reports changes (a network's
or an overlay's lower layer does not), so they are also set again every few seconds, and every second if the kernel
grants no inotify instance. Runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from kernel.host import syscalls

_MASK = (
    syscalls.IN_ATTRIB
    | syscalls.IN_CLOSE_WRITE
    | syscalls.IN_CREATE
    | syscalls.IN_DELETE
    | syscalls.IN_DELETE_SELF
    | syscalls.IN_MOVED_FROM
    | syscalls.IN_MOVED_TO
    | syscalls.IN_MOVE_SELF
    | syscalls.IN_ONLYDIR
)
_CALM = 0.02
"""Seconds after an event in which further events are taken together with it."""
_RETRY = 1.0
"""Seconds between two looks if there is no inotify instance."""
_POLL = 5.0
"""Seconds between two looks otherwise."""
_LOG = logging.getLogger(__name__)


class FolderWatch:
    """Calls `changed` once at the start and after each change, on the loop on which it was made."""

    def __init__(self, folders: Sequence[Path], changed: Callable[[], None]) -> None:
        self._folders = tuple(folders)
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._fd = -1
        self._timer: asyncio.TimerHandle | None = None
        self._arm()

    def close(self) -> None:
        """Stop watching."""
        self._disarm()
        if self._timer:
            self._timer.cancel()

    def _arm(self) -> None:
        """Set the watches first and report then, so that no change is missed in between."""
        self._disarm()
        try:
            self._fd = syscalls.inotify_init()
            for folder in self._folders:
                self._watch(folder)
        except OSError as error:
            _LOG.debug("folders are polled, as there is no inotify instance: %s", error)
            self._disarm()
            self._timer = self._loop.call_later(_RETRY, self._arm)
        else:
            self._loop.add_reader(self._fd, self._event)
            self._timer = self._loop.call_later(_POLL, self._arm)
        self._changed()

    def _watch(self, folder: Path) -> None:
        """Watch the folder, or its nearest ancestor that exists."""
        place = folder
        while not _try_to_watch(self._fd, place) and place != place.parent:
            place = place.parent
        if place != folder and folder.is_dir():  # it has appeared meanwhile
            self._watch(folder)

    def _event(self) -> None:
        self._loop.remove_reader(self._fd)
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(_CALM, self._arm)

    def _disarm(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


def _try_to_watch(fd: int, folder: Path) -> bool:
    try:
        syscalls.inotify_add_watch(fd, folder, _MASK)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
