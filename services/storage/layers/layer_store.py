"""Layers on disk: unpacked once, verified against the diff id, whole or not there.

Runs in the storage worker. A layer is made in a temporary folder beside its place and renamed there when all of it is
on the disk. Bytes go through three processes: a child without any privilege decompresses, this one hashes what comes
out and hands the same bytes on, a child that can reach nothing but the layer's folder reads the tar. So neither a bug
in a decompressor nor one in the tar reader can make a layer that its digest does not say.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from kernel.config.sections import Config, StorageSection
from kernel.contracts.oci import Layer
from kernel.contracts.storage import Usage
from kernel.errors import KINDS, Corrupt, CrispError, Internal, InvalidInput, NotFound, ResourceExhausted
from kernel.host import process, syscalls
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, DiffId, Digest, digest
from services.storage.layers.children import Children, Ended
from services.storage.layers.hash_pump import Pumped
from services.storage.tar import inflate, untar
from services.storage.trees import removal

_LOG = logging.getLogger(__name__)
TEMPORARY = ".tmp-"
REPLACED = ".old-"
"""A damaged layer that a container may still read; `.old-DIGEST-RANDOM`."""
RECORD = "layer.json"
NOTES = "notes.json"
SKELETON = "skeleton"
DAMAGED = "damaged.json"
"""The record of a layer that failed its check: it is not listed, and its files stay for who reads them."""
_FREE_BYTES = 1 << 30
"""What a blob of any size may give."""
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
    skeleton: bool = False
    """Whether its tar can be made again out of its files."""
    notes: bool = False
    boot: str = ""
    """The boot of the host during which it was made."""


class Notes(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept beside a layer that has some of it. A character of a path is a byte."""

    implied: tuple[str, ...] = ()
    """Folders that only entries below them made: how they look is for the layers below to say."""
    hiding: tuple[str, ...] = ()
    """Folders with whiteouts in them."""
    opaque: tuple[str, ...] = ()
    """Folders that hide what is below."""


class _Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    bytes: int
    inodes: int
    root: bool
    opaque: tuple[str, ...]
    implied: tuple[str, ...]
    hiding: tuple[str, ...]
    replaced: bool
    skeleton: bool


class _Refusal(msgspec.Struct, frozen=True, kw_only=True):
    error: str
    message: str
    hint: str


def plan_format(media_type: str) -> str:
    """How a blob is compressed; empty where it is not."""
    form = _FORMATS.get(media_type)
    if form is None:
        raise InvalidInput(f"layer has the media type {media_type!r}, which is not supported")
    return form


def plan_limit(blob_bytes: int, limits: StorageSection) -> int:
    """Most bytes that a blob of a size may give. Pure."""
    return min(limits.max_layer_bytes, max(_FREE_BYTES, blob_bytes * limits.max_layer_ratio))


def judge(layer: Layer, pumped: Pumped, inflated: Ended, untarred: Ended) -> _Report:
    """The verdict over an unpack: what was made, or the reason that counts most. Pure."""
    blob = layer.blob.digest
    if pumped.over:
        raise ResourceExhausted(
            f"blob {blob} gives more bytes than a layer may take",
            hint="storage.max_layer_bytes and storage.max_layer_ratio set the limit",
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
        self.boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        """Which boot of the host this is."""
        self._slots = asyncio.Semaphore(_slots())
        self._under_way: set[str] = set()
        self.replaced = _replaced(self._paths.layers)
        """Names of damaged layers that were made again meanwhile: to be swept once nobody reads them."""
        self.children = Children(_slots(), config.storage.max_layer_entries, config.storage.stall_timeout)

    def close(self) -> None:
        """Let the threads go."""
        self.children.close()

    def find(self, diff_id: DiffId) -> Record | None:
        """The layer's record, where it is whole on disk."""
        folder = self._paths.layer(diff_id)
        try:
            if not (folder / "diff").is_dir():
                return None
            return msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def folders(self, layers: tuple[DiffId, ...]) -> list[Path]:
        """The files of layers that are whole; NotFound for one that is not."""
        for diff_id in layers:
            if self.find(diff_id) is None:
                raise NotFound(f"layer {diff_id} is not unpacked")
        return [self._paths.layer(diff_id) / "diff" for diff_id in layers]

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

    def notes(self, diff_id: DiffId) -> Notes:
        """What is noted of a whole layer."""
        record = self.find(diff_id)
        if record is None or not record.notes:
            return Notes()
        try:
            return msgspec.json.decode((self._paths.layer(diff_id) / NOTES).read_bytes(), type=Notes)
        except (OSError, msgspec.DecodeError) as error:
            raise Corrupt(
                f"layer {diff_id}: its notes cannot be read: {error}", hint="crisp image check --repair"
            ) from error

    def drop(self, diff_id: DiffId) -> None:
        """Take a damaged layer out of the list. Its files stay where they are until it is unpacked again."""
        folder = self._paths.layer(diff_id)
        with suppress(FileNotFoundError):  # dropped already
            (folder / RECORD).rename(folder / DAMAGED)

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
                limit = plan_limit(os.fstat(blob).st_size, self._limits)
                pumped, inflated, untarred = await self._extract(blob, form, folder, limit)
                report = judge(layer, pumped, inflated, untarred)
            record = await asyncio.to_thread(self._commit, folder, layer.diff_id, report)
        except OSError as error:
            kind = ResourceExhausted if error.errno in (errno.ENOSPC, errno.EDQUOT) else Internal
            raise kind(f"layer {layer.diff_id} cannot be stored: {error.strerror}") from error
        finally:
            os.close(blob)
            try:
                await asyncio.to_thread(removal.delete, folder)
            except OSError as error:
                _LOG.warning("%s stays until it is swept: %s", folder, error)
            finally:
                self._under_way.discard(name)
        return Usage(bytes=record.bytes, inodes=record.inodes)

    def remove(self, diff_id: DiffId) -> Path | None:
        """Take a layer out of its place at once; the folder that is left is to be deleted with `discard`."""
        return self._set_aside(self._paths.layer(diff_id))

    def layer_of(self, name: str) -> DiffId | None:
        """Which layer an entry of the folder is, or was."""
        try:
            return DiffId(digest(f"sha256:{name.removeprefix(REPLACED).partition('-')[0]}"))
        except InvalidInput:
            return None

    def sweep(self, name: str, used: Callable[[DiffId], ContainerId | None]) -> None:
        """Delete a left-over by name. A damaged layer that a container uses stays: busy is not corrupt."""
        diff_id = self.layer_of(name)
        if diff_id is not None and used(diff_id) is not None:
            return
        path = self._paths.layers / name
        self.replaced.discard(name)
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

    async def _extract(self, blob: int, form: str, folder: Path, limit: int) -> tuple[Pumped, Ended, Ended]:
        skeleton = os.open(folder / SKELETON, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            return await self.children.extract(blob, form, folder / "diff", skeleton, limit)
        finally:
            os.close(skeleton)

    def _commit(self, folder: Path, diff_id: DiffId, report: _Report) -> Record:
        """Mark, write to the disk, and only then rename: after a power loss a layer is whole or not there."""
        notes = bool(report.implied or report.hiding or report.opaque)
        record = Record(
            bytes=report.bytes, inodes=report.inodes, root=report.root, skeleton=report.skeleton, notes=notes,
            boot=self.boot,
        )  # fmt: skip
        (folder / RECORD).write_bytes(msgspec.json.encode(record))
        if notes:
            noted = Notes(implied=report.implied, hiding=report.hiding, opaque=report.opaque)
            (folder / NOTES).write_bytes(msgspec.json.encode(noted))
        if not report.skeleton:
            (folder / SKELETON).unlink()
        _mark_opaque(folder / "diff", report.opaque)
        place = self._paths.layer(diff_id)
        parent = os.open(self._paths.layers, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscalls.syncfs(parent)
            with suppress(FileNotFoundError):  # a whole one is never unpacked again; who reads a damaged one goes on
                aside = f"{REPLACED}{place.name}-{secrets.token_hex(4)}"
                place.rename(self._paths.layers / aside)
                self.replaced.add(aside)
            folder.rename(place)
            os.fsync(parent)
        finally:
            os.close(parent)
        return record


def _replaced(layers: Path) -> set[str]:
    try:
        return {name for name in os.listdir(layers) if name.startswith(REPLACED)}
    except FileNotFoundError:  # the first start
        return set()


def _mark_opaque(diff: Path, paths: tuple[str, ...]) -> None:
    """The overlay's mark on directories that hide what is below. The child named them: nothing outside is reached."""
    within = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
    folder = os.O_RDONLY | os.O_DIRECTORY
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


def _slots() -> int:
    """Layers that are unpacked at once: each takes three processes."""
    return max(2, min(4, os.cpu_count() or 1))
