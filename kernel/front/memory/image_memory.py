"""What the ImageService remembers beside the records: how far pulls are, and the sizes of the file systems.

Lost with the front, and made anew: nothing here decides what is on the host.
"""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass, field

from kernel.contracts.storage import FsInfo
from kernel.ids import Digest, ImageId


class Phase(enum.Enum):
    """Where a layer of a pull is."""

    WAITING = "waiting"
    DOWNLOADING = "downloading"
    UNPACKING = "unpacking"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class LayerProgress:
    """How far one layer of a pull is, in bytes of its blob."""

    phase: Phase
    done: int
    total: int


@dataclass(slots=True)
class PullProgress:
    """How far a pull is, by the digests of its compressed layers. Watchers are woken, never waited for."""

    layers: dict[Digest, LayerProgress] = field(default_factory=dict)
    abandoned: bool = False
    """Nobody waits for it any more: it is being ended, and leaves nothing."""
    _watchers: set[asyncio.Event] = field(default_factory=set)

    def set(self, layer: Digest, phase: Phase, total: int, done: int = 0) -> None:
        """Say where a layer is now."""
        if phase is Phase.DONE:
            done = total
        self.layers[layer] = LayerProgress(phase, min(done, total), total)
        for watcher in self._watchers:
            watcher.set()

    def watch(self) -> asyncio.Event:
        """An event that is set on each change from now on, until it is given to `unwatch`."""
        event = asyncio.Event()
        self._watchers.add(event)
        return event

    def unwatch(self, event: asyncio.Event) -> None:
        """Forget a watcher."""
        self._watchers.discard(event)


@dataclass(slots=True, eq=False)
class PullUnderWay:
    """A pull that runs as a task of its own, for all who want its image."""

    progress: PullProgress
    task: asyncio.Task[ImageId]
    waiting: int = 0
    """Calls that want its result."""


@dataclass(slots=True)
class ImageMemory:
    """One per front."""

    pulls: dict[tuple[str, ...], PullUnderWay] = field(default_factory=dict)
    """Pulls under way, by the key under which equal ones join."""
    incomplete: set[ImageId] = field(default_factory=set)
    """Images that lack a layer on disk: in no list until they are whole."""
    loads: int = 0
    """Archives that are being loaded."""
    fs_info: FsInfo | None = None
    fs_info_at: int = 0
    """When it was measured: nanoseconds since 1970, as the CRI shows it."""
    fs_info_read: float = 0.0
    """The same on the monotonic clock, to tell its age."""
