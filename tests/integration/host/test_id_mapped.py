"""Id-mapped copies of mounts, on the kernel that is here."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kernel.contracts.oci import IdMap, IdRange
from kernel.host import id_mapped, syscalls
from kernel.host.aio import Deadline
from services.runtime.namespaces import user_namespace

IDS = IdMap(
    uids=IdRange(container_id=0, host_id=100000, length=10), gids=IdRange(container_id=0, host_id=200000, length=10)
)


async def test_owners_are_mapped_in_the_copy_alone(tmp_path: Path) -> None:
    source, point = tmp_path / "source", tmp_path / "point"
    for folder in (source, point):
        folder.mkdir()
    (source / "file").touch()
    os.chown(source / "file", 3, 4)
    async with user_namespace.child((), IDS, Deadline.after(10)) as made:
        userns = os.open(made / "user", os.O_RDONLY)
        fd = id_mapped.clone(source, userns, recursive=False)
        os.close(userns)
    try:
        syscalls.move_mount(fd, point)
    finally:
        os.close(fd)
    try:
        mapped, plain = (point / "file").stat(), (source / "file").stat()
        assert (mapped.st_uid, mapped.st_gid) == (100003, 200004)
        assert (plain.st_uid, plain.st_gid) == (3, 4)
    finally:
        syscalls.umount2(point)


async def test_a_file_system_that_cannot_be_mapped_says_so() -> None:
    async with user_namespace.child((), IDS, Deadline.after(10)) as made:
        userns = os.open(made / "user", os.O_RDONLY)
        before = set(os.listdir("/proc/self/fd"))
        try:
            with pytest.raises(OSError, match="/proc") as caught:
                id_mapped.clone("/proc", userns, recursive=False)
            assert caught.value.errno == errno.EINVAL
            assert len(os.listdir("/proc/self/fd")) == len(before)
        finally:
            os.close(userns)
