"""What layers and writable layers take, kept as things happen: nobody who asks waits for a walk through files. Pure.

A layer never changes, so its size is known from its unpack. A writable layer is measured when it is mounted and then
again from time to time, by those who may take their time; moments are seconds of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kernel.contracts.storage import Usage
from kernel.ids import ContainerId, DiffId

FRESH_SECONDS = 30.0
"""As long a size is the answer without a new look."""
OLD_SECONDS = 60.0
"""After which a size is found anew, while somebody asks."""
_NEVER = float("-inf")


class Counters:
    """One per worker."""

    def __init__(self) -> None:
        self._layers: dict[DiffId, Usage] = {}
        self._containers: dict[ContainerId, tuple[Usage, float]] = {}
        self.loaded = False

    def load(self, layers: Mapping[DiffId, Usage], containers: Iterable[ContainerId]) -> None:
        """What is on disk; writable layers are measured later."""
        self._layers = dict(layers)
        for container in containers:
            self._containers.setdefault(container, (Usage(bytes=0, inodes=0), _NEVER))
        self.loaded = True

    def layer_is(self, diff_id: DiffId, usage: Usage | None) -> None:
        """A layer is there, or gone."""
        if usage is None:
            self._layers.pop(diff_id, None)
        else:
            self._layers[diff_id] = usage

    def container_is(self, container: ContainerId, usage: Usage | None, now: float) -> None:
        """A writable layer was measured, or is gone."""
        if usage is None:
            self._containers.pop(container, None)
        else:
            self._containers[container] = (usage, now)

    def fresh(self, container: ContainerId, now: float) -> Usage | None:
        """The size of a writable layer, where it was found a moment ago."""
        usage, at = self._containers.get(container, (None, _NEVER))
        return usage if now - at <= FRESH_SECONDS else None

    def due(self, now: float) -> ContainerId | None:
        """The writable layer whose size is the oldest, if it is old."""
        container = min(self._containers, key=lambda one: self._containers[one][1], default=None)
        return container if container is not None and now - self._containers[container][1] > OLD_SECONDS else None

    @property
    def layers(self) -> Usage:
        """All layers together."""
        return _add(self._layers.values())

    @property
    def containers(self) -> Usage:
        """All writable layers together."""
        return _add(usage for usage, _ in self._containers.values())


def _add(usages: Iterable[Usage]) -> Usage:
    size = inodes = 0
    for usage in usages:
        size += usage.bytes
        inodes += usage.inodes
    return Usage(bytes=size, inodes=inodes)
