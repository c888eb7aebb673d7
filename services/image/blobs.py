"""The folder of verified blobs: a file appears under its digest once every byte has been hashed and synced.

Runs in threads of the worker's pool. Bytes on their way lie in the folder `partial` beside it, which start-up
empties: nothing there is ever read. The file's name is the digest of what was written, so whoever finds a file
finds a whole one; after a power cut storage's own hash decides.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from kernel.contracts.oci import Descriptor
from kernel.errors import Corrupt, CrispError, Internal, InvalidInput, ResourceExhausted
from kernel.ids import Digest, digest, digest_hex

_FULL = (errno.ENOSPC, errno.EDQUOT)


class BlobFolder:
    """The verified blobs, one file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._partial = folder.parent / "partial"

    def prepare(self) -> None:
        """Make the folders where they are missing and drop what an earlier process left half-written."""
        try:
            for folder in (self._folder, self._partial):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in self._partial.iterdir():
                leftover.unlink()
        except OSError as error:
            raise failed(error, self._folder) from error

    def has(self, blob: Descriptor) -> bool:
        """Whether the blob lies here. A file of another size is not it: it is fetched anew, and replaced."""
        try:
            return self.path(blob.digest).lstat().st_size == blob.size
        except FileNotFoundError:
            return False

    def path(self, blob: Digest) -> Path:
        """Where a blob lies."""
        return self._folder / digest_hex(blob)

    def check_room(self, size: int) -> None:
        """ResourceExhausted where a blob of that size cannot fit."""
        stat = os.statvfs(self._folder)
        if stat.f_bavail * stat.f_frsize < size:
            raise ResourceExhausted(f"blob folder {self._folder}: no room for {size} bytes")

    def begin(self) -> Incoming:
        """Start to write a blob."""
        return Incoming(self._folder, self._partial / secrets.token_hex(16))

    def sizes(self) -> dict[Digest, int]:
        """What lies here; a file that is no blob is passed over."""
        found: dict[Digest, int] = {}
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    with suppress(InvalidInput, FileNotFoundError):  # not ours, or dropped meanwhile
                        found[digest(f"sha256:{entry.name}")] = entry.stat(follow_symlinks=False).st_size
        except OSError as error:
            raise failed(error, self._folder) from error
        return found

    def drop(self, blobs: Iterable[Digest]) -> None:
        """Remove blobs; one that is not here is no error."""
        for blob in blobs:
            path = self.path(blob)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise failed(error, path) from error


class Incoming:
    """A blob being written. Left without `seal` and `commit`, nothing of it stays."""

    def __init__(self, folder: Path, partial: Path) -> None:
        self._folder = folder
        self._partial = partial
        self._hash = hashlib.sha256()
        self.size = 0
        try:
            self._fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise failed(error, partial) from error

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self._partial.unlink(missing_ok=True)

    @property
    def digest(self) -> Digest:
        """The digest of what has been written so far."""
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def write(self, chunk: bytes | memoryview) -> None:
        """Add bytes."""
        self._hash.update(chunk)
        self.size += len(chunk)
        try:
            while chunk:
                chunk = chunk[os.write(self._fd, chunk) :]
        except OSError as error:
            raise failed(error, self._folder) from error

    def seal(self, expected: Digest | None, source: str) -> Digest:
        """All bytes are written: sync them. Corrupt, naming `source`, where they are not those of `expected`."""
        found = self.digest
        if expected is not None and found != expected:
            raise Corrupt(f"{source}: blob {expected}: the {self.size} bytes that came have digest {found}")
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise failed(error, self._folder) from error
        self._close()
        return found

    def commit(self) -> None:
        """Make the sealed blob appear."""
        try:
            self._partial.rename(self._folder / digest_hex(self.digest))
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise failed(error, self._folder) from error

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def failed(error: OSError, path: Path) -> CrispError:
    """A failed operation on our own files as one of our errors."""
    kind = ResourceExhausted if error.errno in _FULL else Internal
    return kind(f"{path}: {error.strerror}")
