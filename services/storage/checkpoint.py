"""Checkpoints of containers, as far as they are files: what a container changed goes out, an archive comes in.

Runs in the storage worker. The runtime worker fills and empties the same folder, `Paths.checkpoint`: on the way out
with what CRIU dumped, on the way in it restores from it. An archive is read by a child that can reach that folder
alone (`unarchive`), its changes are made by the child that makes layers, with the container's root as its own. A
checkpoint may also be an image: then its files are copied out of the image's layers, no link followed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from kernel.config.sections import Config
from kernel.contracts.storage import Descriptions
from kernel.errors import (
    KINDS,
    CrispError,
    FailedPrecondition,
    Internal,
    InvalidInput,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from kernel.host import process, syscalls
from kernel.host.aio import Deadline
from services.storage.confined import system_calls
from services.storage.tar import inflate, unarchive, untar
from services.storage.tar.diff import Diff
from services.storage.tar.unarchive import CONFIG, DELETED, IMAGES, MOST_JSON, ROOTFS_DIFF, SPEC
from services.storage.tar.whiteout import locate
from services.storage.trees import removal

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_ANSWER_LIMIT = 4 * MOST_JSON
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_WITHIN = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class _Refusal(msgspec.Struct, frozen=True, kw_only=True):
    error: str
    message: str
    hint: str


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    config: bytes = msgspec.field(name="config.dump", default=b"")
    spec: bytes = msgspec.field(name="spec.dump", default=b"")


def form_of(first: bytes) -> str:
    """How an archive is compressed, by its first bytes; empty where it is not. Pure."""
    if first.startswith(_GZIP):
        return inflate.GZIP
    return inflate.ZSTD if first.startswith(_ZSTD) else ""


def deleted_paths(text: bytes) -> list[bytes]:
    """The paths of a `deleted.files`, each within the root; InvalidInput for any other. Pure."""
    try:
        listed = msgspec.json.decode(text, type=list[str]) if text else []
    except msgspec.DecodeError as error:
        raise InvalidInput(f"deleted.files does not read: {error}") from error
    paths = [path.encode(errors="surrogateescape") for path in listed]
    for path in paths:
        if not locate(path)[1]:
            raise InvalidInput(f"deleted.files names {path!r}, the root itself")
    return paths


class Checkpoints:
    """What comes out of containers' writable layers and goes into them."""

    def __init__(self, config: Config) -> None:
        self._limits = config.storage
        self._inflate_filter = system_calls.compile_filter(system_calls.INFLATE).hex()
        self._untar_filter = system_calls.compile_filter(system_calls.UNTAR).hex()

    def write_diff(self, upper: Path, lower: Sequence[Path], folder: Path) -> None:
        """Write what a frozen container changed and deleted into its checkpoint's folder."""
        with _words("checkpoint cannot be written"):
            folder.mkdir(mode=0o700, exist_ok=True)
            with open(folder / os.fsdecode(ROOTFS_DIFF), "wb") as out:
                os.fchmod(out.fileno(), 0o600)
                deleted = Diff(upper, lower, out).write()
            said = [f"/{os.fsdecode(path)}" for path in deleted]
            text = msgspec.json.encode([path.encode(errors="replace").decode() for path in said])
            (folder / os.fsdecode(DELETED)).write_bytes(text)

    async def describe(self, archive: str, nothing: Path, deadline: Deadline) -> Descriptions:
        """What an archive says that it is of."""
        fd = _open_archive(archive)
        try:
            with _named(f"archive {archive}"):
                answer = await self._unarchive(fd, nothing, unarchive.DESCRIPTIONS, deadline)
        finally:
            os.close(fd)
        return Descriptions(config=answer.config, spec=answer.spec)

    async def take_in(self, archive: str, folder: Path, deadline: Deadline) -> None:
        """Unpack an archive into a checkpoint's folder, made anew."""
        fd = _open_archive(archive)
        try:
            await asyncio.to_thread(_renew, folder)
            with _named(f"archive {archive}"):
                await self._unarchive(fd, folder, unarchive.ALL, deadline)
        finally:
            os.close(fd)

    async def apply(self, folder: Path, rootfs: Path, deadline: Deadline) -> None:
        """Make a checkpoint's changes in a container's mounted root: deletions first, then all that is in the tar."""
        with _named("checkpoint"):
            await asyncio.to_thread(_delete, folder, rootfs)
            try:
                source = os.open(folder / os.fsdecode(ROOTFS_DIFF), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                return  # it changed nothing
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # nobody checks it against a digest later
            try:
                argv = [untar.__name__, str(self._limits.max_layer_entries), self._untar_filter, str(nowhere)]
                await self._run(argv, rootfs, source, deadline, keep=(nowhere,))
            finally:
                os.close(nowhere)
                os.close(source)

    async def _unarchive(self, archive: int, folder: Path, mode: str, deadline: Deadline) -> _Answer:
        argv = [unarchive.__name__, mode, str(self._limits.max_layer_bytes), self._untar_filter]
        form = form_of(os.pread(archive, 4, 0))
        if not form:
            return _answer(await self._run(argv, folder, archive, deadline))
        read, write = os.pipe2(os.O_CLOEXEC)
        inflater = None
        try:
            words = [*_python(), inflate.__name__, form, self._inflate_filter]
            try:
                inflater = await process.start(
                    words, stdin=archive, stdout=write, stderr=asyncio.subprocess.PIPE, cwd=str(folder)
                )
            finally:
                os.close(write)
            answer = _answer(await self._run(argv, folder, read, deadline))
            assert inflater.stderr is not None  # asked for above
            async with deadline.limit("decompressing an archive"):
                said = await inflater.stderr.read(4096)
                if await inflater.wait():
                    raise InvalidInput(f"it does not decompress: {said.decode(errors='replace')[-500:]}")
            return answer
        finally:
            os.close(read)
            if inflater is not None and inflater.returncode is None:
                process.kill_group(inflater)
                await inflater.wait()

    async def _run(
        self, argv: list[str], folder: Path, source: int, deadline: Deadline, keep: tuple[int, ...] = ()
    ) -> bytes:
        """A confined child to its end: its answer, or the error that it says."""
        child = await process.start(
            [*_python(), *argv], stdin=source, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            cwd=str(folder), pass_fds=keep,
        )  # fmt: skip
        assert child.stdout is not None  # asked for above
        assert child.stderr is not None
        try:
            async with deadline.limit("reading a checkpoint"):
                answer, said = await asyncio.gather(_read(child.stdout), _read(child.stderr))
                code = await child.wait()
        finally:
            if child.returncode is None:
                process.kill_group(child)
                await child.wait()
        if code == unarchive.REFUSED:
            raise _refusal(answer)
        if code:
            words = said.decode(errors="replace").strip()[-500:]
            raise Internal(f"{argv[0]}: {process.describe(code)}: {words or 'it said nothing'}")
        return answer


def describe_layers(layers: Sequence[Path]) -> Descriptions:
    """What an image says that it is a checkpoint of; lowest layer first."""
    return Descriptions(config=_from_layers(layers, CONFIG), spec=_from_layers(layers, SPEC))


def copy_layers(layers: Sequence[Path], folder: Path) -> None:
    """Copy a checkpoint's files out of an image's layers into its folder, made anew. The topmost of a name counts."""
    _renew(folder)
    (folder / os.fsdecode(IMAGES)).mkdir(mode=0o700)
    with _words("checkpoint cannot be taken out of its image"):
        for place in (ROOTFS_DIFF, DELETED, *_images(layers)):
            found = _find(layers, place)
            if found is not None:
                try:
                    _copy(found, folder / os.fsdecode(place))
                finally:
                    os.close(found)
    if not (folder / os.fsdecode(IMAGES) / os.fsdecode(unarchive.INVENTORY)).is_file():
        raise InvalidInput("it has no checkpoint/inventory.img: it is not of a checkpoint")


def _images(layers: Sequence[Path]) -> list[bytes]:
    names: set[bytes] = set()
    for layer in layers:
        top = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = syscalls.openat2(top, os.fsdecode(IMAGES), _FOLDER, _WITHIN)
        except (FileNotFoundError, NotADirectoryError):
            continue
        finally:
            os.close(top)
        try:
            names.update(os.fsencode(name) for name in os.listdir(fd))
        finally:
            os.close(fd)
    for name in names:
        if not unarchive.is_image_name(name):
            raise InvalidInput(f"{IMAGES + b'/' + name!r} has a name that no file of CRIU's has")
    return sorted(IMAGES + b"/" + name for name in names)


def _from_layers(layers: Sequence[Path], name: bytes) -> bytes:
    with _words("checkpoint cannot be read"):
        found = _find(layers, name)
        if found is None:
            raise InvalidInput(f"it has no {name.decode()}: it is not of a checkpoint")
        with open(found, "rb") as file:
            data = file.read(MOST_JSON + 1)
    if len(data) > MOST_JSON:
        raise InvalidInput(f"{name.decode()} has more than {MOST_JSON} bytes")
    return data


def _find(layers: Sequence[Path], place: bytes) -> int | None:
    """A regular file of the topmost layer that has the name. InvalidInput for anything else of that name."""
    for layer in reversed(layers):
        top = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = syscalls.openat2(top, os.fsdecode(place), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, _WITHIN)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):
                raise
            raise InvalidInput(f"{place!r} is not a plain file") from error
        finally:
            os.close(top)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        raise InvalidInput(f"{place!r} is not a plain file")
    return None


def _copy(source: int, target: Path) -> None:
    with open(target, "xb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o600)) as file:
        while os.sendfile(file.fileno(), source, None, 1 << 30):
            pass


def _open_archive(path: str) -> int:
    """An archive that only root can have made: its memory pages and its files become a container's."""
    try:
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = syscalls.openat2(
                root, path.lstrip("/"), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, syscalls.RESOLVE_NO_SYMLINKS
            )
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
    why: CrispError | None = None
    if not stat.S_ISREG(status.st_mode):
        why = InvalidInput(f"archive {path} is not a regular file")
    elif status.st_uid or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        why = PermissionDenied(
            f"archive {path} can be written by others than root",
            hint="CRIU makes processes of it as root: chown it to root and chmod it to 600 if you trust it",
        )
    if why is not None:
        os.close(fd)
        raise why
    return fd


def _renew(folder: Path) -> None:
    with _words("checkpoint's folder cannot be made"):
        removal.delete(folder)
        folder.mkdir(mode=0o700)


def _delete(folder: Path, rootfs: Path) -> None:
    try:
        paths = deleted_paths((folder / os.fsdecode(DELETED)).read_bytes())
    except FileNotFoundError:
        return  # nothing was deleted
    within = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in paths:
            above, name = locate(path)
            try:
                parent = syscalls.openat2(root, os.fsdecode(above or b"."), _FOLDER, within)
            except (FileNotFoundError, NotADirectoryError):
                continue  # gone with what it was in
            try:
                removal.remove_in_place(parent, name)
            finally:
                os.close(parent)
    except OSError as error:
        raise Internal(f"{os.fsdecode(path)} cannot be deleted: {error.strerror}") from error
    finally:
        os.close(root)


def _python() -> list[str]:
    return [sys.executable, "-I", "-m"]


async def _read(stream: asyncio.StreamReader) -> bytes:
    kept = bytearray()
    while chunk := await stream.read(1 << 20):
        kept += chunk[: _ANSWER_LIMIT - len(kept)]
    return bytes(kept)


def _answer(text: bytes) -> _Answer:
    try:
        return msgspec.json.decode(text, type=_Answer)
    except msgspec.DecodeError as error:
        raise Internal(f"the child that reads an archive: its answer is not understood: {error}") from error


def _refusal(answer: bytes) -> CrispError:
    try:
        refusal = msgspec.json.decode(answer, type=_Refusal)
    except msgspec.DecodeError as error:
        return Internal(f"the child that reads a checkpoint: its answer is not understood: {error}")
    return KINDS.get(refusal.error, Internal)(refusal.message, hint=refusal.hint)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Errors say what they are about."""
    try:
        yield
    except (InvalidInput, ResourceExhausted, Internal, FailedPrecondition) as error:
        raise type(error)(f"{what}: {error.message}", hint=error.hint) from error


@contextmanager
def _words(what: str) -> Iterator[None]:
    """Errors of the file system in our words."""
    try:
        yield
    except OSError as error:
        kind = ResourceExhausted if error.errno in _FULL else Internal
        raise kind(f"{what}: {error.strerror}") from error
