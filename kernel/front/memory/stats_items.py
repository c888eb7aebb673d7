"""ContainerStats and PodSandboxStats as items of lists, serialised once for each reading. Pure.

What does not change with a reading (names, labels, annotations) is serialised once for each record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import is_
from typing import Generic, TypeVar

from kernel.contracts.records import Container, Sandbox, SandboxState
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.memory.stats_memory import StatsMemory
from kernel.front.responses import protobuf_fields, stats_views

_ATTRIBUTES = cri.ContainerStats.ATTRIBUTES_FIELD_NUMBER
"""The same number in ContainerStats and in PodSandboxStats."""
_LINUX = cri.PodSandboxStats.LINUX_FIELD_NUMBER
_CONTAINERS = cri.LinuxPodSandboxStats.CONTAINERS_FIELD_NUMBER
_LIMIT = 4096
"""The most objects that are kept of each kind."""
_Made = TypeVar("_Made")


class Kept(Generic[_Made]):
    """Objects made of others, kept as long as those are the same objects."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[tuple[object, ...], _Made]] = {}

    def of(self, name: str, parts: tuple[object, ...], make: Callable[[], _Made]) -> _Made:
        """Return what is kept under `name` if it was made of the same `parts`; otherwise make it and keep it."""
        known = self._kept.get(name)
        if known is not None and all(map(is_, known[0], parts)):
            return known[1]
        if len(self._kept) >= _LIMIT:  # most entries belong to records that are gone
            self._kept.clear()
        made = make()
        self._kept[name] = (parts, made)
        return made


class StatsItems:
    """The serialised statistics; a front has one. `mountpoint` is the path of the containers' writable layers."""

    def __init__(self, mountpoint: str) -> None:
        self._mountpoint = mountpoint
        self._attributes: Kept[bytes] = Kept()
        self._containers: Kept[bytes] = Kept()
        self._pods: Kept[bytes] = Kept()

    def container(self, record: Container, memory: StatsMemory) -> bytes:
        """Return a serialised ContainerStats. It has no numbers if the container does not run or was not read yet."""
        reading = memory.containers.get(record.id) if active(record) else None
        rate, layer = memory.rates.get(record.id), memory.layers.get(record.id)

        def make() -> bytes:
            found = cri.ContainerStats()
            if reading is not None:
                stats_views.container_stats(found, reading, rate)
            if layer is not None and layer.usage is not None:
                stats_views.writable_layer(found.writable_layer, layer.usage, layer.at, self._mountpoint)
            return self._container_attributes(record) + found.SerializeToString()

        return self._containers.of(record.id, (record, reading, rate, layer), make)

    def pod(self, record: Sandbox, members: Iterable[Container], memory: StatsMemory) -> bytes:
        """Return a serialised PodSandboxStats. It has no numbers if the pod is not ready or was not read yet."""
        reading = memory.pods.get(record.id) if ready(record) else None
        rate = memory.rates.get(record.id)

        def make() -> bytes:
            found = cri.LinuxPodSandboxStats()
            if reading is not None:
                stats_views.pod_stats(found, reading, rate)
            return found.SerializeToString()

        linux = [self._pods.of(record.id, (reading, rate), make)]
        if ready(record):
            for member in filter(active, members):
                linux.append(protobuf_fields.field(_CONTAINERS, self.container(member, memory)))
        return self._pod_attributes(record) + protobuf_fields.field(_LINUX, b"".join(linux))

    def _container_attributes(self, record: Container) -> bytes:
        def make() -> bytes:
            return protobuf_fields.field(_ATTRIBUTES, stats_views.container_attributes(record).SerializeToString())

        return self._attributes.of(record.id, (record,), make)

    def _pod_attributes(self, record: Sandbox) -> bytes:
        def make() -> bytes:
            return protobuf_fields.field(_ATTRIBUTES, stats_views.pod_attributes(record).SerializeToString())

        return self._attributes.of(record.id, (record,), make)


def active(record: Container) -> bool:
    """Return whether a container has a process that can be read."""
    return record.state.has_process


def ready(record: Sandbox) -> bool:
    """Return whether a pod is ready: one that is not uses nothing."""
    return record.state is SandboxState.READY
