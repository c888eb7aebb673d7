"""The last readings of pods and containers, and when to read again. The clock is an argument of each method.

Moments are seconds of the monotonic clock; those inside of readings are nanoseconds since 1970, as in the CRI.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from kernel.contracts.stats import CgroupUsage, ContainerUsage, FileSystem, PodUsage, Stats
from kernel.contracts.storage import Usage
from kernel.front.responses.rates import Rate, first_rate
from kernel.ids import ContainerId, SandboxId

LINGER = 30.0
"""Seconds for which readings go on after the last request; the kubelet requests them every ten seconds."""
_SHORTEST = 1.0
_LONGEST = 10.0
"""The limits of the pause between two readings, in seconds."""
_SHARE = 0.01
"""The part of one CPU that readings may take."""
_ECHO = 0.7
"""Seconds from a request to a reading: a caller with two requests, a second apart, gets two readings."""
LAYER_SECONDS = 60.0
"""Seconds that the size of a writable layer may be old: measuring is a walk through all of its files."""


@dataclass(frozen=True, slots=True)
class LayerUsage:
    """The size of a writable layer."""

    usage: Usage | None
    """None if it could not be measured."""
    at: int
    """When it was measured, in nanoseconds since 1970."""
    read: float
    """The time of the last attempt."""


@dataclass(slots=True)
class StatsMemory:
    """The last readings; a front has one. `kernel.front.stats.stats_reading` alone fills it."""

    pods: dict[SandboxId, PodUsage] = field(default_factory=dict)
    containers: dict[ContainerId, ContainerUsage] = field(default_factory=dict)
    detailed: dict[ContainerId, ContainerUsage] = field(default_factory=dict)
    """The last readings with detail, which only metrics need."""
    file_system: FileSystem | None = None
    """The file system of the writable layers."""
    layers: dict[ContainerId, LayerUsage] = field(default_factory=dict)
    rates: dict[str, Rate] = field(default_factory=dict)
    """CPU rates by the id of the pod or container."""
    read: dict[SandboxId, float] = field(default_factory=dict)
    """When each pod was read last."""
    absent: set[str] = field(default_factory=set)
    """Ids of pods and containers that the runtime did not have at a request since the last whole reading."""
    whole_at: float = float("-inf")
    """When all pods were read last."""
    detail_at: float = float("-inf")
    """When all pods were read last with detail."""
    tried_at: float = float("-inf")
    """When the last whole reading ended, successful or not."""
    failing: bool = False
    """Whether the last reading failed: then lists do not wait for the next one."""
    cost: float = 0.0
    """Seconds that a whole reading takes."""
    asked_at: float = float("-inf")
    """When statistics were requested last."""
    begun: dict[tuple[str, ...], float] = field(default_factory=dict)
    """The readings under way, each with its beginning."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by each request, so that the pause before the next reading is computed again."""

    @property
    def period(self) -> float:
        """Seconds between readings while statistics are requested."""
        return min(max(_SHORTEST, self.cost / _SHARE), _LONGEST)

    def pause(self, now: float) -> float | None:
        """Return the seconds until the next whole reading; None if there was no request for `LINGER` seconds."""
        if now - self.asked_at > LINGER:
            return None
        due = self.tried_at + self.period
        if self.tried_at < self.asked_at + _ECHO:
            due = min(due, self.asked_at + _ECHO)
        return max(due - now, 0.0)

    def old(self, now: float) -> bool:
        """Return whether the readings are old, because they have stopped or fail: then a list first tries to read."""
        return now - self.whole_at > 2 * self.period

    def take(self, stats: Stats, now: float, *, whole: bool, since: dict[str, int]) -> None:
        """Keep a reading, which is `whole` if it has all pods.

        `since` is when pods and containers began, by id, in nanoseconds since 1970.
        """
        if whole:
            self._forget(stats)
            self.whole_at = now
        for pod in stats.pods:
            self.pods[pod.sandbox_id] = pod
            self.read[pod.sandbox_id] = now
            self._rate(pod.sandbox_id, pod.usage, since)
            for container in pod.containers:
                self.containers[container.container_id] = container
                self._rate(container.container_id, container.usage, since)
                if container.detail is not None:
                    self.detailed[container.container_id] = container
        if stats.writable_layers is not None:
            self.file_system = stats.writable_layers
            self.detail_at = now

    def layers_due(self, alive: Iterable[ContainerId], now: float) -> list[ContainerId]:
        """Return the containers whose writable layer is to be measured, those never measured first."""
        due = []
        for container_id in alive:
            known = self.layers.get(container_id)
            if known is None or now - known.read > LAYER_SECONDS:
                due.append((known.read if known else float("-inf"), container_id))
        return [container_id for _, container_id in sorted(due)]

    def _rate(self, id_: str, usage: CgroupUsage, since: dict[str, int]) -> None:
        before = self.rates.get(id_)
        after = before.next(usage) if before else first_rate(usage, since.get(id_, 0))
        if after is not None:
            self.rates[id_] = after

    def _forget(self, stats: Stats) -> None:
        """Drop the figures of all that a whole reading does not have."""
        pods = {pod.sandbox_id for pod in stats.pods}
        containers = {container.container_id for pod in stats.pods for container in pod.containers}
        for by_pod in (self.pods, self.read):
            for gone in by_pod.keys() - pods:
                del by_pod[gone]
        for by_container in (self.containers, self.detailed):
            for stopped in by_container.keys() - containers:
                del by_container[stopped]
        for id_ in self.rates.keys() - pods - containers:
            del self.rates[id_]
        self.absent.clear()
