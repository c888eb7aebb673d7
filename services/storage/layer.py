"""Layers on disk: unpacked once, verified against the diff id, whole or not there.

Runs in the storage worker. A layer is made in a temporary folder beside its place and renamed there when all of it is
on the disk. Bytes go through three processes: a child without any privilege decompresses, this one hashes what comes
out and hands the same bytes on, a child that can reach nothing but the layer's folder reads the tar. So neither a bug
in a decompressor nor one in the tar reader can make a layer that its digest does not say.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import stat
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kernel.config import Config
from kernel.contracts.oci import Layer
from kernel.contracts.storage import Usage
from kernel.errors import KINDS, Corrupt, CrispError, Internal, InvalidInput, NotFound, ResourceExhausted
from kernel.host import process, syscalls
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, DiffId, Digest, digest
from services.storage import inflate, removal, seccomp, untar
from services.storage.pump import Pipes, Pumped, pump

TEMPORARY = ".tmp-"
RECORD = "layer.json"
_CHUNK = 1 << 20
_ANSWER_LIMIT = 64 << 20
_FORMATS = {
    "application/vnd.oci.image.layer.v1.tar": "",
    "application/vnd.oci.image.layer.v1.tar+gzip": inflate.GZIP,
    "application/vnd.oci.image.layer.v1.tar+zstd": inflate.ZSTD,
    "application/vnd.oci.image.layer.nondistributable.v1.tar": "",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": inflate.GZIP,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": inflate.ZSTD,
    "application/vnd.docker.image.rootfs.diff.tar": "",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": inflate.GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": inflate.ZSTD,
    "application/vnd.docker.image.rootfs.foreign.diff.tar": "",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": inflate.GZIP,
}


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept beside a layer's files."""

    bytes: int
    inodes: int
    root: bool
    """Whether the tar said the mode and owner of the root directory."""


class _Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    bytes: int
    inodes: int
    root: bool
    opaque: list[str]


class _Refusal(msgspec.Struct, frozen=True, kw_only=True):
    error: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A child that ended: its exit status and what it said."""

    returncode: int
    answer: bytes


def plan_format(media_type: str) -> str:
    """How a blob is compressed; empty where it is not."""
    form = _FORMATS.get(media_type)
    if form is None:
        raise InvalidInput(f"layer has the media type {media_type!r}, which is not supported")
    return form


def judge(layer: Layer, pumped: Pumped, inflated: Ended, untarred: Ended) -> _Report:
    """The verdict over an unpack: what was made, or the reason that counts most. Pure."""
    blob = layer.blob.digest
    if pumped.over:
        raise ResourceExhausted(
            f"blob {blob} gives more bytes than a layer may take", hint="storage.max_layer_bytes sets the limit"
        )
    if inflated.returncode == inflate.REFUSED:
        raise Corrupt(f"blob {blob} does not decompress: {_words(inflated.answer)}")
    if inflated.returncode:
        raise Internal(f"the child that decompresses: {_failure(inflated)}")
    if pumped.digest != layer.diff_id:
        raise Corrupt(f"blob {blob} gives the tar {pumped.digest}, the image's configuration says {layer.diff_id}")
    try:
        if untarred.returncode == untar.REFUSED:
            raise _refusal(layer, msgspec.json.decode(untarred.answer, type=_Refusal))
        if untarred.returncode:
            raise Internal(f"the child that reads the tar: {_failure(untarred)}")
        report = msgspec.json.decode(untarred.answer, type=_Report)
    except msgspec.DecodeError as error:
        raise Internal(f"the child that reads the tar: its answer is not understood: {error}") from error
    return report


def _refusal(layer: Layer, refusal: _Refusal) -> CrispError:
    kind = KINDS.get(refusal.error, Internal)
    return kind(f"layer {layer.diff_id}: {refusal.message}", hint=refusal.hint)


def _words(text: bytes) -> str:
    return text.decode(errors="replace").strip()[-500:]


def _failure(child: Ended) -> str:
    return f"{process.describe(child.returncode)}: {_words(child.answer) or 'it said nothing'}"


class LayerStore:
    """The folder of layers. `unpack` runs once at a time for a layer; the caller sees to that."""

    def __init__(self, config: Config) -> None:
        self._paths = config.paths
        self._limits = config.storage
        self._threads = ThreadPoolExecutor(max_workers=_slots(), thread_name_prefix="hash")
        self._slots = asyncio.Semaphore(_slots())
        self._under_way: set[str] = set()
        self._inflate_filter = seccomp.compile_filter(seccomp.INFLATE).hex()
        self._untar_filter = seccomp.compile_filter(seccomp.UNTAR).hex()

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False)

    def find(self, diff_id: DiffId) -> Record | None:
        """The layer's record, where it is whole on disk."""
        folder = self._paths.layer(diff_id)
        try:
            if not (folder / "diff").is_dir():
                return None
            return msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def all(self) -> dict[DiffId, Record]:
        """Every whole layer."""
        found = {}
        for name in os.listdir(self._paths.layers):
            with suppress(InvalidInput):  # a temporary folder
                diff_id = DiffId(digest(f"sha256:{name}"))
                if record := self.find(diff_id):
                    found[diff_id] = record
        return found

    def partial(self) -> list[str]:
        """Temporary folders that nobody works in, and layers that are damaged."""
        whole = {diff_id.removeprefix("sha256:") for diff_id in self.all()}
        return sorted(set(os.listdir(self._paths.layers)) - whole - self._under_way)

    async def unpack(self, layer: Layer, deadline: Deadline) -> Usage:
        """Unpack the layer's blob into its place."""
        form = plan_format(layer.blob.media_type)
        blob = self._open_blob(layer.blob.digest)
        name = self._temporary()
        folder = self._paths.layers / name
        try:
            async with deadline.limit(f"unpacking layer {layer.diff_id}"), self._slots:
                (folder / "diff").mkdir(parents=True)
                folder.chmod(0o700)
                (folder / "diff").chmod(0o755)
                pumped, inflated, untarred = await self._extract(blob, form, folder)
                report = judge(layer, pumped, inflated, untarred)
            record = await asyncio.to_thread(self._commit, folder, layer.diff_id, report)
        except OSError as error:
            kind = ResourceExhausted if error.errno in (errno.ENOSPC, errno.EDQUOT) else Internal
            raise kind(f"layer {layer.diff_id} cannot be stored: {error.strerror}") from error
        finally:
            os.close(blob)
            try:
                await asyncio.to_thread(removal.delete, folder)
            finally:
                self._under_way.discard(name)
        return Usage(bytes=record.bytes, inodes=record.inodes)

    def remove(self, diff_id: DiffId) -> Path | None:
        """Take a layer out of its place at once; the folder that is left is to be deleted with `discard`."""
        return self._set_aside(self._paths.layer(diff_id))

    def sweep(self, name: str, used: Callable[[DiffId], ContainerId | None]) -> None:
        """Delete a left-over by name. A damaged layer that a container uses stays: busy is not corrupt."""
        if not name.startswith(TEMPORARY):
            with suppress(InvalidInput):  # not a layer's name
                if used(DiffId(digest(f"sha256:{name}"))) is not None:
                    return
        path = self._paths.layers / name
        if path.is_dir():
            removal.delete(path)
        else:
            path.unlink(missing_ok=True)

    def discard(self, folder: Path) -> None:
        """Delete a folder that was taken out of its place."""
        try:
            removal.delete(folder)
        finally:
            self._under_way.discard(folder.name)

    def _set_aside(self, folder: Path) -> Path | None:
        aside = self._paths.layers / self._temporary()
        try:
            folder.rename(aside)
        except FileNotFoundError:
            self._under_way.discard(aside.name)
            return None
        return aside

    def _temporary(self) -> str:
        name = TEMPORARY + secrets.token_hex(8)
        self._under_way.add(name)
        return name

    def _open_blob(self, blob: Digest) -> int:
        """The image worker owns the folder, so no link in it is followed and only a regular file is read."""
        path = self._paths.blob(blob).relative_to(self._paths.root)
        within = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS
        root = os.open(self._paths.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = syscalls.openat2(root, str(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, within)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise NotFound(f"blob {blob} is not in the blob folder") from error
            raise Internal(f"blob {blob} cannot be read: {error.strerror}") from error
        finally:
            os.close(root)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotFound(f"blob {blob} is not a regular file")
        return fd

    async def _extract(self, blob: int, form: str, folder: Path) -> tuple[Pumped, Ended, Ended]:
        """Both children and the hash between them, to the end of all three."""
        python = [sys.executable, "-I", "-m"]
        children: list[asyncio.subprocess.Process] = []
        pipes = Pipes()
        pumping: asyncio.Future[Pumped] | None = None
        loop = asyncio.get_running_loop()
        try:
            source = os.dup(blob)
            pipes.hold(source)
            inflater = None
            if form:
                read, write = pipes.make()
                argv = [*python, inflate.__name__, form, self._inflate_filter]
                inflater = await process.start(
                    argv, stdin=source, stdout=write, stderr=asyncio.subprocess.PIPE, cwd=str(folder)
                )
                children.append(inflater)
                pipes.close(write, source)
                source = read
            read, write = pipes.make()
            argv = [*python, untar.__name__, str(self._limits.max_layer_entries), self._untar_filter]
            untarrer = await process.start(
                argv,
                stdin=read,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=str(folder / "diff"),
            )
            children.append(untarrer)
            pipes.close(read)
            pipes.release(source, write)
            pumping = loop.run_in_executor(self._threads, pump, source, write, self._limits.max_layer_bytes)
            return await asyncio.gather(asyncio.shield(pumping), _listen(inflater), _listen(untarrer))
        finally:
            for child in children:
                if child.returncode is None:
                    process.kill_group(child)
                    await child.wait()
            pipes.close_all()
            if pumping is not None:  # with its children gone it ends
                await asyncio.wait([pumping])

    def _commit(self, folder: Path, diff_id: DiffId, report: _Report) -> Record:
        """Mark, write to the disk, and only then rename: after a power loss a layer is whole or not there."""
        record = Record(bytes=report.bytes, inodes=report.inodes, root=report.root)
        (folder / RECORD).write_bytes(msgspec.json.encode(record))
        _mark_opaque(folder / "diff", report.opaque)
        place = self._paths.layer(diff_id)
        parent = os.open(self._paths.layers, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscalls.syncfs(parent)
            if (damaged := self._set_aside(place)) is not None:  # a whole one is never unpacked again
                self.discard(damaged)
            folder.rename(place)
            os.fsync(parent)
        finally:
            os.close(parent)
        return record


def _mark_opaque(diff: Path, paths: list[str]) -> None:
    """The overlay's mark on directories that hide what is below. The child named them: nothing outside is reached."""
    within = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
    folder = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    root = os.open(diff, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in paths:
            try:
                fd = syscalls.openat2(root, os.fsdecode(path.encode("latin-1") or b"."), folder, within)
            except (FileNotFoundError, NotADirectoryError):
                continue  # a later entry of the tar took its place
            try:
                os.setxattr(fd, "trusted.overlay.opaque", b"y")
            finally:
                os.close(fd)
    finally:
        os.close(root)


async def _listen(child: asyncio.subprocess.Process | None) -> Ended:
    """A child's answer and its end: what it said on standard output where that is piped, else on standard error.

    A blob that is not compressed has no child for that, which is a child that succeeds.
    """
    if child is None:
        return Ended(returncode=0, answer=b"")
    said = await asyncio.gather(*(_read(stream) for stream in (child.stdout, child.stderr) if stream is not None))
    returncode = await child.wait()
    return Ended(returncode=returncode, answer=next((text for text in said if text), b""))


async def _read(stream: asyncio.StreamReader) -> bytes:
    kept = bytearray()
    while chunk := await stream.read(_CHUNK):
        kept += chunk[: _ANSWER_LIMIT - len(kept)]
    return bytes(kept)


def _slots() -> int:
    """Layers that are unpacked at once: each takes three processes."""
    return max(2, min(4, os.cpu_count() or 1))
