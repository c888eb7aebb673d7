"""Layers on disk: unpacked once, verified against the diff id, and either whole or not there.

Runs in the storage worker. A layer is made in a temporary folder beside its place and renamed there when all of it is
on the disk. Its bytes go through three processes: a child without any privilege decompresses, this one hashes the
output and passes the same bytes on, and a child that can reach nothing but the layer's folder reads the tar. So no
bug in a decompressor or in the tar reader can make a layer that differs from its digest.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from kernel.config.sections import Config
from kernel.contracts.oci import Layer
from kernel.contracts.storage import Usage
from kernel.errors import Corrupt, InvalidInput, NotFound, from_os
from kernel.host import proc, syscalls
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, DiffId, digest
from services.storage.layers.blob import compression, most_bytes, open_blob
from services.storage.layers.children import Children, Ended
from services.storage.layers.hash_pump import Pumped
from services.storage.layers.record import DAMAGED, NOTES, RECORD, REPLACED, SKELETON, TEMPORARY, Notes, Record
from services.storage.layers.report import Report, judge
from services.storage.trees import overlay_marks, removal, within

_LOG = logging.getLogger(__name__)


class LayerStore:
    """The folder of layers. The caller makes sure that `unpack` runs once at a time for a layer."""

    def __init__(self, config: Config) -> None:
        self._paths = config.paths
        self._limits = config.storage
        self.boot = proc.boot_id()
        """The id of the host's present boot."""
        self._slots = asyncio.Semaphore(_slots())
        self._under_way: set[str] = set()
        """Names of temporary folders that this worker works in."""
        self.replaced = _replaced(self._paths.layers)
        """Folders of damaged layers that were made again: to be swept once no container reads them."""
        self.children = Children(_slots(), config.storage.max_layer_entries, config.storage.stall_timeout)

    def close(self) -> None:
        """End the threads that hash."""
        self.children.close()

    def find(self, diff_id: DiffId) -> Record | None:
        """Return a layer's record; None if the layer is not whole on disk."""
        folder = self._paths.layer(diff_id)
        try:
            if not (folder / "diff").is_dir():
                return None
            return msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def folders(self, layers: tuple[DiffId, ...]) -> list[Path]:
        """Return the folders with the files of layers; NotFound for a layer that is not whole."""
        for diff_id in layers:
            if self.find(diff_id) is None:
                raise NotFound(f"layer {diff_id} is not unpacked")
        return [self._paths.layer(diff_id) / "diff" for diff_id in layers]

    def all(self) -> dict[DiffId, Record]:
        """Return every whole layer with its record."""
        found = {}
        for name in os.listdir(self._paths.layers):
            with suppress(InvalidInput):  # a temporary folder
                diff_id = DiffId(digest(f"sha256:{name}"))
                if record := self.find(diff_id):
                    found[diff_id] = record
        return found

    def partial(self) -> list[str]:
        """Return the names of temporary folders that no unpack works in, and of damaged layers."""
        whole = {diff_id.removeprefix("sha256:") for diff_id in self.all()}
        return sorted(set(os.listdir(self._paths.layers)) - whole - self._under_way)

    def notes(self, diff_id: DiffId) -> Notes:
        """Return the notes of a whole layer; Corrupt if it has some and they cannot be read."""
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
        """Take a damaged layer off the list. Its files stay in place, for containers, until it is unpacked again."""
        folder = self._paths.layer(diff_id)
        with suppress(FileNotFoundError):  # dropped already
            (folder / RECORD).rename(folder / DAMAGED)

    async def unpack(self, layer: Layer, deadline: Deadline) -> Usage:
        """Unpack the layer's blob into its place, and return its size.

        NotFound without a blob, Corrupt or InvalidInput for a bad one, ResourceExhausted beyond a limit or on a full
        disk. An error leaves nothing.
        """
        form = compression(layer.blob.media_type)
        blob = open_blob(self._paths, layer.blob.digest)
        name = self._temporary()
        folder = self._paths.layers / name
        try:
            async with deadline.limit(f"unpacking layer {layer.diff_id}"), self._slots:
                (folder / "diff").mkdir(parents=True)
                folder.chmod(0o700)
                (folder / "diff").chmod(0o755)
                limit = most_bytes(os.fstat(blob).st_size, self._limits)
                pumped, inflated, untarred = await self._extract(blob, form, folder, limit)
                report = judge(layer, pumped, inflated, untarred)
            record = await asyncio.to_thread(self._commit, folder, layer.diff_id, report)
        except OSError as error:
            raise from_os(error, f"layer {layer.diff_id} cannot be stored") from error
        finally:
            os.close(blob)
            try:
                await asyncio.to_thread(removal.delete, folder)
            except OSError as error:
                _LOG.warning("left-over %s stays until the next sweep: %s", folder, error)
            finally:
                self._under_way.discard(name)
        return Usage(bytes=record.bytes, inodes=record.inodes)

    def remove(self, diff_id: DiffId) -> Path | None:
        """Take a layer out of its place at once. Return the folder, for `discard`; None if there was none."""
        return self._set_aside(self._paths.layer(diff_id))

    def layer_of(self, name: str) -> DiffId | None:
        """Return the layer that an entry of the folder is or was; None if it never was one."""
        try:
            return DiffId(digest(f"sha256:{name.removeprefix(REPLACED).partition('-')[0]}"))
        except InvalidInput:
            return None

    def sweep(self, name: str, used: Callable[[DiffId], ContainerId | None]) -> None:
        """Delete a left-over by name, unless it is a damaged layer for which `used` returns a container."""
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
        """Delete a folder that `remove` returned."""
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

    async def _extract(self, blob: int, form: str, folder: Path, limit: int) -> tuple[Pumped, Ended, Ended]:
        skeleton = os.open(folder / SKELETON, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            return await self.children.extract(blob, form, folder / "diff", skeleton, limit)
        finally:
            os.close(skeleton)

    def _commit(self, folder: Path, diff_id: DiffId, report: Report) -> Record:
        """Write records and marks, sync all, and then rename: even a power failure leaves a layer whole or absent."""
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
            with suppress(FileNotFoundError):  # only a damaged one is unpacked again; its containers keep reading it
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
    """Set the overlay's mark on directories that hide what is below.

    The child named them, so their paths are resolved inside the layer: nothing outside can be reached.
    """
    root = os.open(diff, within.PLACE)
    try:
        for path in paths:
            try:
                fd = within.open_in_root(root, path.encode("latin-1"), os.O_RDONLY | os.O_DIRECTORY)
            except (FileNotFoundError, NotADirectoryError):
                continue  # a later entry of the tar took its place
            try:
                overlay_marks.make_opaque(fd)
            finally:
                os.close(fd)
    finally:
        os.close(root)


def _slots() -> int:
    """Return how many layers are unpacked at once: each takes three processes."""
    return max(2, min(4, os.cpu_count() or 1))
