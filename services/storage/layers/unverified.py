"""Layers that are not believed yet: made during the boot that ended without a word, they are checked before use.

A layer is on the disk before it is listed, as far as the disk keeps its promises; after a power failure that is looked
at. `state.json` in storage's folder says which boot of the host was the last one seen, whether storage ended in order
in it, and which layers are still to be checked. A worker that was only killed leaves none: the kernel kept it all.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec

from kernel.ids import DiffId
from services.storage.layers.layer_store import LayerStore

_LOG = logging.getLogger(__name__)
FILE = "state.json"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says."""

    boot: str
    clean: bool = False
    """Whether storage ended in order, with everything written back."""
    suspects: tuple[DiffId, ...] = ()


def needs_records(before: State | None, boot: str) -> bool:
    """Whether it matters when layers were made. Pure."""
    return before is not None and before.boot != boot and not before.clean


def plan(before: State | None, boot: str, made: Mapping[DiffId, str]) -> State:
    """The state from now on. `made`: during which boot each layer was made. Pure."""
    suspects = [diff_id for diff_id in before.suspects if diff_id in made] if before else []
    if before is not None and needs_records(before, boot):
        suspects += [diff_id for diff_id, when in made.items() if when == before.boot]
    return State(boot=boot, suspects=tuple(dict.fromkeys(suspects)))


class Suspects:
    """The layers to be checked, kept on disk until each was."""

    def __init__(self, folder: Path, layers: LayerStore) -> None:
        self._file = folder / FILE
        self._lock = threading.Lock()
        """Checks end in threads, several at once."""
        before = self._read()
        made: dict[DiffId, str] = {}
        if before is not None and (before.suspects or needs_records(before, layers.boot)):
            made = {diff_id: record.boot for diff_id, record in layers.all().items()}
        self._state = plan(before, layers.boot, made)
        if self._state != before:
            self._write()

    @property
    def pending(self) -> tuple[DiffId, ...]:
        """Those that were not checked yet."""
        return self._state.suspects

    def cleared(self, diff_id: DiffId) -> None:
        """One was checked."""
        with self._lock:
            left = tuple(other for other in self._state.suspects if other != diff_id)
            self._state = State(boot=self._state.boot, suspects=left)
            self._write()

    def end(self) -> None:
        """Storage ends in order, and all it made was written back before it was listed."""
        with self._lock:
            self._state = State(boot=self._state.boot, clean=True, suspects=self._state.suspects)
            try:
                self._write()
            except OSError as error:
                _LOG.warning("layers will be checked at the next boot: %s", error)

    def _read(self) -> State | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=State)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _write(self) -> None:
        fresh = self._file.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(self._state))
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self._file)
