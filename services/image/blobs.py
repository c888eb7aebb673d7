"""The folder of verified blobs: a file appears under its digest once every byte has been hashed and synced.

Runs in threads of the worker's pool. Bytes on their way lie in the folder `partial` beside it. A download's are
under `DIGEST.partial` and stay for a day when it breaks off or the worker dies: the next download of the blob hashes
them and goes on behind them. Only one writer has such a file, by its lock; all others write under a random name.
The name of a blob's file is the digest of what was written, so whoever finds a file finds a whole one; after a
power cut storage's own hash decides.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from kernel.contracts.oci import Descriptor
from kernel.errors import Cancelled, Corrupt, CrispError, Internal, InvalidInput, ResourceExhausted
from kernel.ids import Digest, digest, digest_hex

_LOG = logging.getLogger(__name__)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_SUFFIX = ".partial"
_WORTH = 64 << 10
"""The least bytes of a broken-off download that are kept: fewer come sooner than they are asked for."""
_KEPT_SECONDS = 24 * 3600.0
_KEPT_BYTES = 16 << 30
"""The most bytes of broken-off downloads together: the newest stay."""
_PIECE = 1 << 20


class BlobFolder:
    """The verified blobs, one file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._partial = folder.parent / "partial"

    def prepare(self) -> None:
        """Make the folders where they are missing and drop what an earlier process left and nobody can go on with."""
        try:
            for folder in (self._folder, self._partial):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in self._partial.iterdir():
                if leftover.suffix != _SUFFIX or leftover.lstat().st_size < _WORTH:
                    leftover.unlink()
        except OSError as error:
            raise failed(error, self._folder) from error
        self.collect(time.time())

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
        """ResourceExhausted where so many bytes cannot fit, also without the broken-off downloads, which then go."""
        if self._room() < size:
            self.collect(time.time(), most_bytes=0)
        if self._room() < size:
            raise ResourceExhausted(f"blob folder {self._folder}: no room for {size} bytes")

    def begin(self) -> Incoming:
        """Start to write a blob."""
        return Incoming(self._folder, self._partial / secrets.token_hex(16))

    def keep(self, documents: Iterable[bytes]) -> None:
        """Put small blobs here, each under its digest."""
        for data in documents:
            blob = Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")
            if not self.has(Descriptor(media_type="", digest=blob, size=len(data))):
                with self.begin() as incoming:
                    incoming.write(data)
                    incoming.seal(blob, "our own")
                    incoming.commit()

    def resume(self, blob: Descriptor, given_up: Callable[[], bool]) -> Incoming:
        """Start to write a blob, or go on behind the bytes of it that are here. Cancelled once given up."""
        path = self._broken_off(blob.digest)
        try:
            incoming = Incoming(self._folder, path, kept=True)
        except BlockingIOError:
            return self.begin()  # a job that was given up still holds it
        try:
            incoming.read_again(blob.size, given_up)
        except BaseException:
            incoming.__exit__()
            raise
        return incoming

    def collect(self, now: float, most_bytes: int = _KEPT_BYTES) -> None:
        """Drop broken-off downloads of yesterday, and the oldest of those that are more than `most_bytes` together."""
        found: list[tuple[float, int, Path]] = []
        try:
            for path in self._partial.glob(f"*{_SUFFIX}"):
                with suppress(FileNotFoundError):
                    stat = path.lstat()
                    found.append((stat.st_mtime, stat.st_size, path))
            total = 0
            for changed, size, path in sorted(found, reverse=True):
                total += size
                if (now - changed > _KEPT_SECONDS or total > most_bytes) and _unlink_idle(path):
                    _LOG.info("dropped %d bytes of a download that broke off (%s)", size, path.stem)
        except OSError as error:
            raise failed(error, self._partial) from error

    def _room(self) -> int:
        stat = os.statvfs(self._folder)
        return stat.f_bavail * stat.f_frsize

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

    def drop(self, blobs: Iterable[Digest], *, partial: bool = False, aside: bool = False) -> None:
        """Remove blobs, or put them `aside`; and what broke off of them where `partial`. One that is not here is no
        error."""
        for blob in blobs:
            path = self.path(blob)
            try:
                if aside and path.lstat().st_size >= _WORTH:
                    path.rename(self._broken_off(blob))
                path.unlink(missing_ok=True)
                if partial:
                    _unlink_idle(self._broken_off(blob))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise failed(error, path) from error

    def _broken_off(self, blob: Digest) -> Path:
        return self._partial / f"{digest_hex(blob)}{_SUFFIX}"


class Incoming:
    """A blob being written. Left without `seal` and `commit`, nothing of it stays, unless it is to be `kept`."""

    def __init__(self, folder: Path, partial: Path, *, kept: bool = False) -> None:
        """BlockingIOError where `kept` and another has the file."""
        self._folder = folder
        self._partial = partial
        self._kept = kept
        self._hash = hashlib.sha256()
        self.size = 0
        """Bytes written so far."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(partial, flags if kept else flags | os.O_EXCL, 0o600)
        except OSError as error:
            raise failed(error, partial) from error
        if kept and not _lock(self._fd, partial):
            os.close(self._fd)
            raise BlockingIOError(f"{partial} is being written")

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0 and not (self._kept and os.fstat(self._fd).st_size >= _WORTH):
            self._partial.unlink(missing_ok=True)  # under the lock: it is still this file
        self._close()

    def read_again(self, most: int, given_up: Callable[[], bool]) -> None:
        """Hash what an earlier download left. More than `most` bytes are none of this blob: they go."""
        buffer = memoryview(bytearray(_PIECE))
        try:
            while count := os.readv(self._fd, [buffer]):
                if given_up():
                    raise Cancelled("given up")
                self._hash.update(buffer[:count])
                self.size += count
                if self.size > most:
                    return self.restart()
        except OSError as error:
            raise failed(error, self._partial) from error

    def restart(self) -> None:
        """Forget all that was written."""
        try:
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        except OSError as error:
            raise failed(error, self._partial) from error
        self._hash = hashlib.sha256()
        self.size = 0

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
            self._kept = False  # the disk is full or broken, or a part of the chunk is missing: all goes
            raise failed(error, self._folder) from error

    def seal(self, expected: Digest | None, source: str) -> Digest:
        """All bytes are written: sync them. Corrupt, naming `source`, where they are not those of `expected`."""
        found = self.digest
        if expected is not None and found != expected:
            raise Corrupt(f"{source}: blob {expected}: the {self.size} bytes that came have digest {found}")
        try:
            os.fsync(self._fd)
        except OSError as error:
            self._kept = False
            raise failed(error, self._folder) from error
        return found

    def commit(self) -> None:
        """Make the sealed blob appear."""
        try:
            self._partial.rename(self._folder / digest_hex(self.digest))
            self._close()
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


def _lock(fd: int, path: Path) -> bool:
    """Whether this process's job alone has the file now, and it still is the one at `path`."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), path.lstat())
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as error:
        raise failed(error, path) from error


def _unlink_idle(path: Path) -> bool:
    """Remove a partial file unless a job writes it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        idle = _lock(fd, path)
        if idle:
            path.unlink()
    finally:
        os.close(fd)
    return idle


def failed(error: OSError, path: Path) -> CrispError:
    """A failed operation on our own files as one of our errors."""
    kind = ResourceExhausted if error.errno in _FULL else Internal
    return kind(f"{path}: {error.strerror}")
