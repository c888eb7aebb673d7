"""The file that lists running workers, by which a new supervisor finds those of an earlier one.

It is one small file, replaced as a whole. A process is identified by pid and start time; an entry does not count if its
process has gone, or if its pid belongs to another process. If the file cannot be read, there are no entries: the
workers that it named are then started again, and take over their sockets.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from kernel.host import files, pidfd, proc

_LOG = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's process."""

    name: str
    pid: int
    """0 while it is down."""
    start_time: int
    """Field 22 of /proc/PID/stat."""
    restarts: int


def entry(name: str, pid: int, restarts: int) -> Entry:
    """Return the entry of a process that lives, or that is not reaped; raises ProcessLookupError if there is none."""
    return Entry(name=name, pid=pid, start_time=proc.start_time(pid), restarts=restarts)


def save(path: Path, entries: Iterable[Entry]) -> None:
    """Replace the file. It need not survive a boot."""
    files.replace(path, msgspec.json.encode(list(entries)), durable=False, mode=0o644)


def load(path: Path) -> dict[str, Entry]:
    """Return the entries of the file by name."""
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[Entry])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        _LOG.warning("%s does not read back, so no worker is adopted: %s", path, error)
        return {}
    return {one.name: one for one in entries}


def adopt(known: Entry) -> int | None:
    """Return a pidfd of the entry's process; None if it does not run any more."""
    return pidfd.open_same(known.pid, known.start_time)
