"""Layers that have to be checked before use, because the host went down uncleanly during the boot that made them.

Runs in threads of the storage worker. A layer is synced to the disk before it is listed; whether the disk kept its
promise is checked after a power failure. `state.json` in storage's folder names the boot of the host that was last
seen, whether storage ended in order during it, and the layers that are still unverified. A worker that was only killed
leaves none: the kernel still writes its data to the disk.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec

from kernel.host import files
from kernel.ids import DiffId
from services.storage.layers.layer_store import LayerStore

_LOG = logging.getLogger(__name__)
FILE = "state.json"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the file."""

    boot: str
    clean: bool = False
    """Whether storage ended in order, with everything written back."""
    suspects: tuple[DiffId, ...] = ()
    """The layers that are still unverified."""


def needs_records(before: State | None, boot: str) -> bool:
    """Return whether the last boot ended uncleanly, so that it matters when layers were made. Pure."""
    return before is not None and before.boot != boot and not before.clean


def plan(before: State | None, boot: str, made: Mapping[DiffId, str]) -> State:
    """Return the state from now on. `made`: the boot during which each layer was made. Pure."""
    suspects = [diff_id for diff_id in before.suspects if diff_id in made] if before else []
    if before is not None and needs_records(before, boot):
        suspects += [diff_id for diff_id, when in made.items() if when == before.boot]
    return State(boot=boot, suspects=tuple(dict.fromkeys(suspects)))


class Unverified:
    """The layers that are still to be checked, kept on disk until each is."""

    def __init__(self, folder: Path, layers: LayerStore) -> None:
        self._file = folder / FILE
        self._lock = threading.Lock()
        """Checks end in several threads at once."""
        before = self._read()
        made: dict[DiffId, str] = {}
        if before is not None and (before.suspects or needs_records(before, layers.boot)):
            made = {diff_id: record.boot for diff_id, record in layers.all().items()}
        self._state = plan(before, layers.boot, made)
        if self._state != before:
            self._write()

    @property
    def pending(self) -> tuple[DiffId, ...]:
        """The layers that have not been checked yet."""
        return self._state.suspects

    def clear(self, diff_id: DiffId) -> None:
        """Note that a layer was checked."""
        with self._lock:
            left = tuple(other for other in self._state.suspects if other != diff_id)
            self._state = State(boot=self._state.boot, suspects=left)
            self._write()

    def end(self) -> None:
        """Note that storage ends in order: all that it listed has been synced."""
        with self._lock:
            self._state = State(boot=self._state.boot, clean=True, suspects=self._state.suspects)
            try:
                self._write()
            except OSError as error:
                _LOG.warning("%s cannot be written, so layers are checked after the next boot: %s", self._file, error)

    def _read(self) -> State | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=State)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _write(self) -> None:
        files.replace(self._file, msgspec.json.encode(self._state), durable=True)
