"""A checkpoint that is an archive: opened only if no user but root can have written it, read by a confined child.

Runs in the storage worker. The child can reach the checkpoint's folder alone, or nothing if only the descriptions are
needed; a compressed archive goes through the child that decompresses layers first.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from pathlib import Path

import msgspec

from kernel.config.sections import Config
from kernel.contracts.storage import Descriptions
from kernel.errors import CrispError, Internal, InvalidInput, NotFound, PermissionDenied
from kernel.host import files, filters, process
from kernel.host.aio import Deadline
from services.storage.checkpoints import child, unarchive
from services.storage.checkpoints.folder import named, renew
from services.storage.confined import system_calls
from services.storage.tar import inflate
from services.storage.trees import within

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
"""The first bytes of compressed archives (RFC 1952, section 2.3.1; RFC 8878, section 3.1.1)."""


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    config: bytes = msgspec.field(name="config.dump", default=b"")
    spec: bytes = msgspec.field(name="spec.dump", default=b"")


def compression(first: bytes) -> str:
    """Return how an archive is compressed, by its first bytes; empty if it is not. Pure."""
    if first.startswith(_GZIP):
        return inflate.GZIP
    return inflate.ZSTD if first.startswith(_ZSTD) else ""


class Archives:
    """Reads archives."""

    def __init__(self, config: Config) -> None:
        self._limits = config.storage
        self._inflate_filter = filters.allow_only(system_calls.INFLATE).hex()
        self._unarchive_filter = filters.allow_only(system_calls.UNARCHIVE).hex()

    async def describe(self, path: str, nothing: Path, deadline: Deadline) -> Descriptions:
        """Return the descriptions in an archive. `nothing`: an empty folder for the child to work in."""
        fd = open_archive(path)
        try:
            with named(f"archive {path}"):
                answer = await self._read(fd, nothing, unarchive.DESCRIPTIONS, deadline)
        finally:
            os.close(fd)
        return Descriptions(config=answer.config, spec=answer.spec)

    async def unpack(self, path: str, folder: Path, deadline: Deadline) -> None:
        """Unpack an archive into a checkpoint's folder, which is emptied first."""
        fd = open_archive(path)
        try:
            await asyncio.to_thread(renew, folder)
            with named(f"archive {path}"):
                await self._read(fd, folder, unarchive.ALL, deadline)
        finally:
            os.close(fd)

    async def _read(self, archive: int, folder: Path, mode: str, deadline: Deadline) -> _Answer:
        argv = child.program(unarchive.__name__, mode, str(self._limits.max_layer_bytes), self._unarchive_filter)
        form = compression(os.pread(archive, 4, 0))
        if not form:
            return _decode(await child.run(argv, folder, archive, deadline))
        read, write = os.pipe2(os.O_CLOEXEC)
        inflater = None
        try:
            try:
                inflater = await process.start(
                    child.program(inflate.__name__, form, self._inflate_filter),
                    stdin=archive, stdout=write, stderr=asyncio.subprocess.PIPE, cwd=str(folder),
                )  # fmt: skip
            finally:
                os.close(write)
            answer = _decode(await child.run(argv, folder, read, deadline))
            assert inflater.stderr is not None  # a pipe, as requested above
            async with deadline.limit("decompressing an archive"):
                reason = await inflater.stderr.read(4096)
                if await inflater.wait():
                    raise InvalidInput(f"it cannot be decompressed: {reason.decode(errors='replace')[-500:]}")
            return answer
        finally:
            os.close(read)
            if inflater is not None:
                await child.end(inflater)


def open_archive(path: str) -> int:
    """Open an archive for reading; the caller closes it. The memory pages and files in it become a
    container's.

    NotFound if it is not there, InvalidInput for a link in its path or anything but a regular file, PermissionDenied
    if others than root could have written it.
    """
    try:
        root = os.open("/", within.PLACE)
        try:
            fd = within.open_plain(root, os.fsencode(path.lstrip("/")), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        finally:
            os.close(root)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise NotFound(f"archive {path} is not here") from error
        if error.errno == errno.ELOOP:
            raise InvalidInput(f"archive {path}: there is a symbolic link in its path") from error
        if error.errno in (errno.ENXIO, errno.ENODEV):
            raise InvalidInput(f"archive {path} is not a regular file") from error
        raise Internal(f"archive {path} cannot be read: {error.strerror}") from error
    status = os.fstat(fd)
    refused: CrispError | None = None
    if not stat.S_ISREG(status.st_mode):
        refused = InvalidInput(f"archive {path} is not a regular file")
    elif reason := files.why_not_trusted(status):
        refused = PermissionDenied(
            f"archive {path} {reason}",
            hint="CRIU makes processes of it as root: chown it to root and chmod it to 600 if you trust it",
        )
    if refused is not None:
        os.close(fd)
        raise refused
    return fd


def _decode(answer: bytes) -> _Answer:
    try:
        return msgspec.json.decode(answer, type=_Answer)
    except msgspec.DecodeError as error:
        raise Internal(f"the child that reads an archive: its answer cannot be decoded: {error}") from error
