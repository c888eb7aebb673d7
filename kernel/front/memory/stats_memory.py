"""The last readings of pods and containers, and when to read again. The clock is an argument of each method.

Lost with the front and made anew. Moments are seconds of the monotonic clock; those within readings are
nanoseconds since 1970, as the CRI shows them.
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
"""Readings go on as long after the last question; the kubelet asks every ten seconds."""
_SHORTEST = 1.0
_LONGEST = 10.0
_SHARE = 0.01
"""The part of one CPU that readings may take."""
_ECHO = 0.7
"""A question is followed by a reading this much later: who asks twice, a second apart, sees two readings."""
LAYER_SECONDS = 60.0
"""How old the size of a writable layer may get: finding it is a walk through all of its files."""


@dataclass(frozen=True, slots=True)
class LayerUsage:
    """The size of a writable layer; `usage` is None where it could not be measured."""

    usage: Usage | None
    at: int
    read: float


@dataclass(slots=True)
class StatsMemory:
    """One per front. Filled by `kernel.front.stats.stats_reading` alone."""

    pods: dict[SandboxId, PodUsage] = field(default_factory=dict)
    containers: dict[ContainerId, ContainerUsage] = field(default_factory=dict)
    detailed: dict[ContainerId, ContainerUsage] = field(default_factory=dict)
    """The last reading with detail, which is asked for seldom."""
    file_system: FileSystem | None = None
    layers: dict[ContainerId, LayerUsage] = field(default_factory=dict)
    rates: dict[str, Rate] = field(default_factory=dict)
    """By id of the pod or container."""
    read: dict[SandboxId, float] = field(default_factory=dict)
    """When each pod was read."""
    absent: set[str] = field(default_factory=set)
    """What was asked for since the last whole reading and is not there."""
    whole_at: float = float("-inf")
    """When all was read."""
    detail_at: float = float("-inf")
    tried_at: float = float("-inf")
    """When the last whole reading ended, well or not."""
    failing: bool = False
    """The last reading failed: lists do not wait for the next."""
    cost: float = 0.0
    """Seconds that a whole reading takes."""
    asked_at: float = float("-inf")
    begun: dict[tuple[str, ...], float] = field(default_factory=dict)
    """Readings under way."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def period(self) -> float:
        """Seconds between readings while somebody asks."""
        return min(max(_SHORTEST, self.cost / _SHARE), _LONGEST)

    def pause(self, now: float) -> float | None:
        """Seconds until the next whole reading; None once nobody has asked for long."""
        if now - self.asked_at > LINGER:
            return None
        due = self.tried_at + self.period
        if self.tried_at < self.asked_at + _ECHO:
            due = min(due, self.asked_at + _ECHO)
        return max(due - now, 0.0)

    def old(self, now: float) -> bool:
        """Whether readings had stopped, or fail: a list must not go without trying."""
        return now - self.whole_at > 2 * self.period

    def take(self, stats: Stats, now: float, *, whole: bool, since: dict[str, int]) -> None:
        """Keep a reading. `since` says when pods and containers began."""
        if whole:
            self._forget(stats)
            self.whole_at = now
        for pod in stats.pods:
            self.pods[pod.sandbox] = pod
            self.read[pod.sandbox] = now
            self._rate(pod.sandbox, pod.usage, since)
            for container in pod.containers:
                self.containers[container.container] = container
                self._rate(container.container, container.usage, since)
                if container.detail is not None:
                    self.detailed[container.container] = container
        if stats.writable_layers is not None:
            self.file_system = stats.writable_layers
            self.detail_at = now

    def layers_due(self, alive: Iterable[ContainerId], now: float) -> list[ContainerId]:
        """Whose writable layer is to be measured, those never measured first."""
        due = []
        for container in alive:
            known = self.layers.get(container)
            if known is None or now - known.read > LAYER_SECONDS:
                due.append((known.read if known else float("-inf"), container))
        return [container for _, container in sorted(due)]

    def _rate(self, name: str, usage: CgroupUsage, since: dict[str, int]) -> None:
        before = self.rates.get(name)
        after = before.next(usage) if before else first_rate(usage, since.get(name, 0))
        if after is not None:
            self.rates[name] = after

    def _forget(self, stats: Stats) -> None:
        pods = {pod.sandbox for pod in stats.pods}
        containers = {container.container for pod in stats.pods for container in pod.containers}
        for by_pod in (self.pods, self.read):
            for gone in by_pod.keys() - pods:
                del by_pod[gone]
        for by_container in (self.containers, self.detailed):
            for stopped in by_container.keys() - containers:
                del by_container[stopped]
        for name in self.rates.keys() - pods - containers:
            del self.rates[name]
        self.absent.clear()
