"""Readings of pods and containers, from the CRI's ListPodSandboxStats. Pure.

A pod's writable layer is the sum of its containers'. The CRI counts processes and traffic only for pods.
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel.cli.usage.rows import GroupReading, PodReading
from kernel.cri.generated import cri_pb2


def readings(stats: Iterable[cri_pb2.PodSandboxStats]) -> list[PodReading]:
    """Return a reading of each pod."""
    return [_pod(one) for one in stats]


def _pod(found: cri_pb2.PodSandboxStats) -> PodReading:
    linux, metadata = found.linux, found.attributes.metadata
    containers = tuple(_container(one) for one in linux.containers)
    layers = [one.writable_layer for one in containers if one.writable_layer is not None]
    networked = linux.HasField("network")
    interfaces = [linux.network.default_interface, *linux.network.interfaces]
    pod = GroupReading(
        id=found.attributes.id,
        name=metadata.name,
        at=linux.cpu.timestamp,
        cpu=_cpu(linux.cpu),
        nano_cores=_nano_cores(linux.cpu),
        memory=_memory(linux.memory),
        writable_layer=sum(layers) if layers else None,
        processes=linux.process.process_count.value if linux.process.HasField("process_count") else None,
        network_at=linux.network.timestamp,
        received=sum(one.rx_bytes.value for one in interfaces) if networked else None,
        sent=sum(one.tx_bytes.value for one in interfaces) if networked else None,
    )
    return PodReading(namespace=metadata.namespace, pod=pod, containers=containers)


def _container(found: cri_pb2.ContainerStats) -> GroupReading:
    measured = found.writable_layer.HasField("used_bytes")
    return GroupReading(
        id=found.attributes.id,
        name=found.attributes.metadata.name,
        at=found.cpu.timestamp,
        cpu=_cpu(found.cpu),
        nano_cores=_nano_cores(found.cpu),
        memory=_memory(found.memory),
        writable_layer=found.writable_layer.used_bytes.value if measured else None,
    )


def _cpu(found: cri_pb2.CpuUsage) -> int | None:
    return found.usage_core_nano_seconds.value if found.HasField("usage_core_nano_seconds") else None


def _nano_cores(found: cri_pb2.CpuUsage) -> int | None:
    return found.usage_nano_cores.value if found.HasField("usage_nano_cores") else None


def _memory(found: cri_pb2.MemoryUsage) -> int | None:
    return found.working_set_bytes.value if found.HasField("working_set_bytes") else None
