"""The folder of verified blobs: a file appears under its digest once every byte has been hashed and synced.

Runs in threads of the worker's pool. Bytes that arrive are written in the folder `partial` beside it. Those of a
download are in `DIGEST.partial`, and stay there for a day if it breaks off or the worker dies: the next download of the
blob hashes them and continues after them. Only one writer has such a file, by its lock; all others write under a random
name. A blob's file is named by the digest of what was written, so every file in the folder is whole; after a power loss
storage's own hash decides.
"""

from __future__ import annotations

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
from kernel.errors import Cancelled, Corrupt, CrispError, InvalidInput, ResourceExhausted, from_os
from kernel.host import files
from kernel.ids import Digest, digest, digest_hex, short

_LOG = logging.getLogger(__name__)
_SUFFIX = ".partial"
_WORTH = 64 << 10
"""The least bytes of a broken-off download that are kept: fewer are downloaded again sooner than a range of them."""
_KEPT_SECONDS = 24 * 3600.0
_KEPT_BYTES = 16 << 30
"""The most bytes of all broken-off downloads together; the newest are kept."""
_PIECE = 1 << 20


class BlobFolder:
    """The verified blobs, one file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._partial = folder.parent / "partial"

    def prepare(self) -> None:
        """Make the folders if they are missing; remove what an earlier process left and no download can continue."""
        try:
            for folder in (self._folder, self._partial):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in self._partial.iterdir():
                if leftover.suffix != _SUFFIX or leftover.lstat().st_size < _WORTH:
                    leftover.unlink()
        except OSError as error:
            raise _failed(error, self._folder) from error
        self.collect(time.time())

    def has(self, blob: Descriptor) -> bool:
        """Return whether the blob is here. A file of another size does not count; the next fetch replaces it."""
        try:
            return self.path(blob.digest).lstat().st_size == blob.size
        except FileNotFoundError:
            return False

    def path(self, blob: Digest) -> Path:
        """Return the path of a blob."""
        return self._folder / digest_hex(blob)

    def check_room(self, size: int) -> None:
        """Make room, if need be by removing broken-off downloads. ResourceExhausted if `size` bytes do not fit."""
        if self._room() < size:
            self.collect(time.time(), most_bytes=0)
        if self._room() < size:
            raise ResourceExhausted(f"blob folder {self._folder}: no room for {size} bytes")

    def begin(self) -> Incoming:
        """Begin to write a blob. Nothing of it stays unless it is committed."""
        return Incoming(self._folder, self._partial / secrets.token_hex(16))

    def keep(self, documents: Iterable[bytes]) -> None:
        """Store small blobs, each under its digest."""
        for data in documents:
            blob = Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")
            if not self.has(Descriptor(media_type="", digest=blob, size=len(data))):
                with self.begin() as incoming:
                    incoming.write(data)
                    incoming.seal(blob, "document to keep")
                    incoming.commit()

    def resume(self, blob: Descriptor, given_up: Callable[[], bool]) -> Incoming:
        """Begin to write a blob, after the bytes of a broken-off download if there are any.

        `given_up` is called between pieces while these are hashed: Cancelled once it returns True.
        """
        path = self._broken_off(blob.digest)
        try:
            incoming = Incoming(self._folder, path, kept=True)
        except BlockingIOError:
            return self.begin()  # a job that was given up still has it open
        try:
            incoming.read_again(blob.size, given_up)
        except BaseException:
            incoming.__exit__()
            raise
        return incoming

    def collect(self, now: float, most_bytes: int = _KEPT_BYTES) -> None:
        """Remove broken-off downloads older than a day, and the oldest ones beyond `most_bytes` of all together."""
        found: list[tuple[float, int, Path]] = []
        try:
            for path in self._partial.glob(f"*{_SUFFIX}"):
                with suppress(FileNotFoundError):  # removed meanwhile
                    stat = path.lstat()
                    found.append((stat.st_mtime, stat.st_size, path))
            total = 0
            for changed, size, path in sorted(found, reverse=True):
                total += size
                if (now - changed > _KEPT_SECONDS or total > most_bytes) and _unlink_idle(path):
                    _LOG.info("blob %s: %d bytes of its broken-off download are removed", short(path.stem), size)
        except OSError as error:
            raise _failed(error, self._partial) from error

    def _room(self) -> int:
        stat = os.statvfs(self._folder)
        return stat.f_bavail * stat.f_frsize

    def sizes(self) -> dict[Digest, int]:
        """Return the size of each blob here; a file that is no blob is ignored."""
        found: dict[Digest, int] = {}
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    with suppress(InvalidInput, FileNotFoundError):  # no blob, or removed meanwhile
                        found[digest(f"sha256:{entry.name}")] = entry.stat(follow_symlinks=False).st_size
        except OSError as error:
            raise _failed(error, self._folder) from error
        return found

    def drop(self, blobs: Iterable[Digest], *, partial: bool = False, aside: bool = False) -> None:
        """Remove blobs; one that is not here is no error.

        `aside`: keep their bytes as those of a broken-off download. `partial`: remove broken-off downloads of them too.
        """
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
                raise _failed(error, path) from error

    def _broken_off(self, blob: Digest) -> Path:
        return self._partial / f"{digest_hex(blob)}{_SUFFIX}"


class Incoming:
    """A blob that is being written. Without `seal` and `commit` nothing of it stays, unless it is to be `kept`."""

    def __init__(self, folder: Path, partial: Path, *, kept: bool = False) -> None:
        """`kept`: whether its bytes stay if it breaks off. BlockingIOError if another writer has locked them."""
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
            raise _failed(error, partial) from error
        if kept and not _lock(self._fd, partial):
            os.close(self._fd)
            raise BlockingIOError(f"{partial} is being written")

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0 and not (self._kept and os.fstat(self._fd).st_size >= _WORTH):
            self._partial.unlink(missing_ok=True)  # under the lock, so it is still this file
        self._close()

    def read_again(self, most: int, given_up: Callable[[], bool]) -> None:
        """Hash what an earlier download left. More than `most` bytes cannot be of this blob and are removed."""
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
            raise _failed(error, self._partial) from error

    def restart(self) -> None:
        """Remove all that was written."""
        try:
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        except OSError as error:
            raise _failed(error, self._partial) from error
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> Digest:
        """The digest of what has been written so far."""
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes. ResourceExhausted if the disk is full."""
        self._hash.update(chunk)
        self.size += len(chunk)
        try:
            while chunk:
                chunk = chunk[os.write(self._fd, chunk) :]
        except OSError as error:
            self._kept = False  # the disk is full or broken, or a part of the chunk is missing: nothing is kept
            raise _failed(error, self._folder) from error

    def seal(self, expected: Digest | None, source: str) -> Digest:
        """Sync the bytes and return their digest. Corrupt, naming `source`, if it is not the one `expected`."""
        found = self.digest
        if expected is not None and found != expected:
            raise Corrupt(f"{source}: blob {expected}: the {self.size} bytes that came have digest {found}")
        try:
            os.fsync(self._fd)
        except OSError as error:
            self._kept = False
            raise _failed(error, self._folder) from error
        return found

    def commit(self) -> None:
        """Put the sealed blob into the folder."""
        try:
            self._partial.rename(self._folder / digest_hex(self.digest))
            self._close()
            files.sync(self._folder)
        except OSError as error:
            raise _failed(error, self._folder) from error

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _lock(fd: int, path: Path) -> bool:
    """Lock a file. Return whether this job alone has it now, and it still is the one at `path`."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), path.lstat())
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as error:
        raise _failed(error, path) from error


def _unlink_idle(path: Path) -> bool:
    """Remove a partial file unless a job writes it; return whether it was removed."""
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


def _failed(error: OSError, path: Path) -> CrispError:
    return from_os(error, str(path))
