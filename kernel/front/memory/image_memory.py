"""The ImageService's memory beside the records: the progress of pulls, and the sizes of the file systems.

Nothing here decides what is on the host.
"""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass, field

from kernel.contracts.storage import FsInfo
from kernel.ids import Digest, ImageId


class Phase(enum.Enum):
    """The phase of one layer of a pull."""

    WAITING = "waiting"
    DOWNLOADING = "downloading"
    UNPACKING = "unpacking"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class LayerProgress:
    """The progress of one layer of a pull. `done` and `total` are bytes of its compressed blob."""

    phase: Phase
    done: int
    total: int


@dataclass(slots=True)
class PullProgress:
    """The progress of a pull, by the digests of its compressed layers. Watchers are woken, never waited for."""

    layers: dict[Digest, LayerProgress] = field(default_factory=dict)
    abandoned: bool = False
    """Whether no caller waits for it any more. Then it is being cancelled, and leaves nothing."""
    _watchers: set[asyncio.Event] = field(default_factory=set)

    def set(self, layer: Digest, phase: Phase, total: int, done: int = 0) -> None:
        """Set the progress of a layer; `done` may be omitted for the phase DONE."""
        if phase is Phase.DONE:
            done = total
        self.layers[layer] = LayerProgress(phase, min(done, total), total)
        for watcher in self._watchers:
            watcher.set()

    def watch(self) -> asyncio.Event:
        """Return an event that is set on each change from now on, until it is given to `unwatch`."""
        event = asyncio.Event()
        self._watchers.add(event)
        return event

    def unwatch(self, event: asyncio.Event) -> None:
        """Forget a watcher."""
        self._watchers.discard(event)


@dataclass(slots=True, eq=False)
class PullUnderWay:
    """A pull that runs in a task of its own, for all calls that request its image."""

    progress: PullProgress
    task: asyncio.Task[ImageId]
    waiting: int = 0
    """The number of calls that wait for its result."""


@dataclass(slots=True)
class ImageMemory:
    """The ImageService's memory; a front has one."""

    pulls: dict[tuple[str, ...], PullUnderWay] = field(default_factory=dict)
    """Pulls under way, by the key under which equal ones join."""
    incomplete: set[ImageId] = field(default_factory=set)
    """Images that lack a layer on disk. No list has them until they are whole."""
    loads: int = 0
    """The number of archives that are being loaded."""
    fs_info: FsInfo | None = None
    """The last sizes of the file systems; None until they have been measured."""
    fs_info_at: int = 0
    """When they were measured, in nanoseconds since 1970 (FilesystemUsage.timestamp)."""
    fs_info_read: float = 0.0
    """The same in seconds of the monotonic clock, to compute their age."""
