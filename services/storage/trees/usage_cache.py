"""The sizes of layers and writable layers, kept as they change: no call waits for a walk through files. Pure.

A layer never changes, so its size is known from its unpack. A writable layer is measured when it is mounted and then
again from time to time, in the background. Times are seconds of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kernel.contracts.storage import Usage
from kernel.ids import ContainerId, DiffId

FRESH_SECONDS = 30.0
"""Seconds after its measurement during which a size is returned as it is."""
OLD_SECONDS = 60.0
"""Seconds after which a size is measured again, if the totals are still being requested."""
_NEVER = float("-inf")


class UsageCache:
    """The sizes of one worker's layers and writable layers."""

    def __init__(self) -> None:
        self._layers: dict[DiffId, Usage] = {}
        self._containers: dict[ContainerId, tuple[Usage, float]] = {}
        self.loaded = False
        """Whether everything on disk is included."""

    def load(self, layers: Mapping[DiffId, Usage], containers: Iterable[ContainerId]) -> None:
        """Add the layers and containers on disk; writable layers are measured later."""
        self._layers = dict(layers)
        for container_id in containers:
            self._containers.setdefault(container_id, (Usage(bytes=0, inodes=0), _NEVER))
        self.loaded = True

    def set_layer(self, diff_id: DiffId, usage: Usage | None) -> None:
        """Note the size of a layer; None if it is gone."""
        if usage is None:
            self._layers.pop(diff_id, None)
        else:
            self._layers[diff_id] = usage

    def set_container(self, container_id: ContainerId, usage: Usage | None, now: float) -> None:
        """Note the size of a writable layer, measured at `now`; None if it is gone."""
        if usage is None:
            self._containers.pop(container_id, None)
        else:
            self._containers[container_id] = (usage, now)

    def fresh(self, container_id: ContainerId, now: float) -> Usage | None:
        """Return the size of a writable layer, if it was measured at most FRESH_SECONDS before `now`."""
        usage, at = self._containers.get(container_id, (None, _NEVER))
        return usage if now - at <= FRESH_SECONDS else None

    def due(self, now: float) -> ContainerId | None:
        """Return the container whose size is the oldest, if it is older than OLD_SECONDS."""
        oldest = min(self._containers, key=lambda one: self._containers[one][1], default=None)
        return oldest if oldest is not None and now - self._containers[oldest][1] > OLD_SECONDS else None

    @property
    def layers(self) -> Usage:
        """The size of all layers together."""
        return _add(self._layers.values())

    @property
    def containers(self) -> Usage:
        """The size of all writable layers together."""
        return _add(usage for usage, _ in self._containers.values())


def _add(usages: Iterable[Usage]) -> Usage:
    size = inodes = 0
    for usage in usages:
        size += usage.bytes
        inodes += usage.inodes
    return Usage(bytes=size, inodes=inodes)
