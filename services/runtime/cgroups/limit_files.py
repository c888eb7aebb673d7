"""Limits written into the files of a cgroup that has processes already.

Run by the runtime worker in threads, as root. Rules kept: an update is applied whole or not at all; a value that the
kernel rejects because of the order (a limit above one that is about to grow) is written again after the rest.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kernel.contracts.runtime import Resources
from kernel.errors import FailedPrecondition, Internal, InvalidInput
from services.runtime.cgroups.cgroup_tree import Cgroups
from services.runtime.spec import limits
from services.runtime.spec.limits import Support, Write

_LOG = logging.getLogger(__name__)


def apply(cgroups: Cgroups, path: str, requested: Resources, held: Resources, support: Support, what: str) -> None:
    """Give a cgroup the limits of `requested`. `held`: all limits afterwards. `what` names its owner in errors.

    FailedPrecondition for a memory limit below the current use.
    """
    for note in limits.left_out(requested, support):
        _LOG.warning("%s: left out: %s", what, note)
    planned = limits.writes(requested, held, support)
    if requested.memory_limit_in_bytes and (used := memory_use(cgroups, path)) is not None:
        limits.check_use(requested, used)
    write(cgroups, path, planned, what)


def memory_use(cgroups: Cgroups, path: str) -> int | None:
    """Return the bytes of memory that a cgroup uses now; None if nothing counts them."""
    root = cgroups.hierarchies.root_of("memory")
    name = "memory.current" if cgroups.hierarchies.only_v2 else "memory.usage_in_bytes"
    if root is not None:
        with suppress(OSError):  # no controller or no cgroup: the write reports that
            return int((root / path.lstrip("/") / name).read_text())
    return None


def write(cgroups: Cgroups, path: str, planned: Sequence[Write], what: str) -> None:
    """Write files of a cgroup; after an error each has the value that it had before, as far as the kernel takes it."""
    before: list[tuple[Path, str]] = []
    late: list[Write] = []
    try:
        for one in planned:
            if not _write_one(cgroups, path, one, before):
                late.append(one)
        for one in late:
            if not _write_one(cgroups, path, one, before):
                raise InvalidInput(f"{what}: the kernel rejects {one.file} = {one.value[:64]!r}")
    except Exception:
        for file, value in reversed(before):
            with suppress(OSError):  # the error that is about to be raised is more useful
                file.write_text(value)
        raise


def _write_one(cgroups: Cgroups, path: str, wanted: Write, before: list[tuple[Path, str]]) -> bool:
    """Write one file and add its value to `before`. Return False if the kernel rejects the new value."""
    root = cgroups.hierarchies.root_of(wanted.controller)
    if root is None:
        raise Internal(f"{wanted.file}: the host has no controller {wanted.controller}")
    file = root / path.lstrip("/") / wanted.file
    try:
        value = file.read_text().strip()
        file.write_text(wanted.value)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ERANGE):
            return False
        if error.errno == errno.EBUSY:
            raise FailedPrecondition(f"{wanted.file}: {wanted.value} is below what is in use") from error
        if error.errno == errno.ENOENT and file.parent.is_dir():
            raise InvalidInput(f"linux.resources: this host has no {wanted.file}") from error
        raise Internal(f"{file}: {error.strerror}") from error
    before.append((file, value))
    return True
