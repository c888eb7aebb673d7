"""Notices that something in a set of folders appeared, changed or vanished, also the folders themselves.

inotify knows nothing of a folder that is not there, so its nearest ancestor is watched instead; after every
event all is armed anew, which needs no account of what was armed. Not every file system tells (a network's, a lower
layer's), so all is armed anew every few seconds as well; every second where the kernel grants no inotify instance.
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
"""Seconds in which further events join the first."""
_RETRY = 1.0
_POLL = 5.0
_LOG = logging.getLogger(__name__)


class FolderWatch:
    """Calls `changed` after each change, on the loop that it was started on."""

    def __init__(self, folders: Sequence[Path], changed: Callable[[], None]) -> None:
        self._folders = tuple(folders)
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._fd = -1
        self._timer: asyncio.TimerHandle | None = None
        self._arm()

    def close(self) -> None:
        """Stop noticing."""
        self._disarm()
        if self._timer:
            self._timer.cancel()

    def _arm(self) -> None:
        """Watch first, look then: no change falls between."""
        self._disarm()
        try:
            self._fd = syscalls.inotify_init()
            for folder in self._folders:
                self._watch(folder)
        except OSError as error:
            _LOG.debug("folders are polled: %s", error)
            self._disarm()
            self._timer = self._loop.call_later(_RETRY, self._arm)
        else:
            self._loop.add_reader(self._fd, self._event)
            self._timer = self._loop.call_later(_POLL, self._arm)
        self._changed()

    def _watch(self, folder: Path) -> None:
        """Watch the folder and each ancestor, up to the first that cannot be taken away from under it."""
        place = folder
        while not _watched(self._fd, place) and place != place.parent:
            place = place.parent
        if place != folder and folder.is_dir():  # it appeared meanwhile
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


def _watched(fd: int, folder: Path) -> bool:
    try:
        syscalls.inotify_add_watch(fd, folder, _MASK)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
