"""Readings as the CRI shows them. Pure.

What the kernel does not say is left out, so that nobody takes it for nothing used. A message is kept, serialised, as
long as the record and the reading that it is made of are the last ones.
"""

from __future__ import annotations

from kernel.contracts.records import Container, Sandbox
from kernel.contracts.stats import CgroupUsage, ContainerUsage, InterfaceUsage, PodUsage, Pressure, Stall
from kernel.front import views
from kernel.front.generated import cri_pb2 as cri
from kernel.front.stats_memory import LayerUsage, Rate

_DEFAULT_INTERFACE = "eth0"


def container_stats(
    record: Container,
    reading: ContainerUsage | None,
    rate: Rate | None,
    layer: LayerUsage | None,
    mountpoint: str,
) -> cri.ContainerStats:
    """A container; only its attributes where it was not read."""
    config = views.container_config(record)
    found = cri.ContainerStats(
        attributes=cri.ContainerAttributes(
            id=record.id, metadata=config.metadata, labels=record.labels, annotations=config.annotations
        )
    )
    if reading is not None:
        usage = reading.usage
        found.cpu.CopyFrom(_cpu(usage, rate))
        found.memory.CopyFrom(_memory(usage))
        found.swap.CopyFrom(_swap(usage))
        if usage.io_pressure is not None:
            found.io.CopyFrom(cri.IoUsage(timestamp=usage.at, psi=_psi(usage.io_pressure)))
    if layer is not None and layer.usage is not None:
        found.writable_layer.CopyFrom(
            cri.FilesystemUsage(
                timestamp=layer.at,
                fs_id=cri.FilesystemIdentifier(mountpoint=mountpoint),
                used_bytes=cri.UInt64Value(value=layer.usage.bytes),
                inodes_used=cri.UInt64Value(value=layer.usage.inodes),
            )
        )
    return found


def pod_stats(
    record: Sandbox, reading: PodUsage | None, rate: Rate | None, containers: list[cri.ContainerStats]
) -> cri.PodSandboxStats:
    """A pod with its containers; without numbers of its own where it was not read."""
    config = views.pod_config(record)
    found = cri.PodSandboxStats(
        attributes=cri.PodSandboxAttributes(
            id=record.id, metadata=config.metadata, labels=record.labels, annotations=config.annotations
        ),
        linux=cri.LinuxPodSandboxStats(containers=containers),
    )
    if reading is not None:
        usage, linux = reading.usage, found.linux
        linux.cpu.CopyFrom(_cpu(usage, rate))
        linux.memory.CopyFrom(_memory(usage))
        linux.process.CopyFrom(
            cri.ProcessUsage(timestamp=usage.at, process_count=cri.UInt64Value(value=reading.processes))
        )
        if reading.interfaces is not None:
            linux.network.CopyFrom(_network(usage.at, reading.interfaces))
        if usage.io_pressure is not None:
            linux.io.CopyFrom(cri.IoUsage(timestamp=usage.at, psi=_psi(usage.io_pressure)))
    return found


def available(usage: CgroupUsage) -> int | None:
    """Memory up to the limit; None without one."""
    if not usage.memory_limit or usage.working_set is None:
        return None
    return max(usage.memory_limit - usage.working_set, 0)


def _cpu(usage: CgroupUsage, rate: Rate | None) -> cri.CpuUsage:
    return cri.CpuUsage(
        timestamp=usage.at,
        usage_core_nano_seconds=_value(usage.cpu),
        usage_nano_cores=_value(rate.nano_cores if rate else None),
        psi=_psi(usage.cpu_pressure),
    )


def _memory(usage: CgroupUsage) -> cri.MemoryUsage:
    return cri.MemoryUsage(
        timestamp=usage.at,
        working_set_bytes=_value(usage.working_set),
        available_bytes=_value(available(usage)),
        usage_bytes=_value(usage.memory),
        rss_bytes=_value(usage.rss),
        page_faults=_value(usage.page_faults),
        major_page_faults=_value(usage.major_page_faults),
        psi=_psi(usage.memory_pressure),
    )


def _swap(usage: CgroupUsage) -> cri.SwapUsage:
    left = None
    if usage.swap is not None and usage.swap_limit is not None:
        left = max(usage.swap_limit - usage.swap, 0)
    return cri.SwapUsage(timestamp=usage.at, swap_available_bytes=_value(left), swap_usage_bytes=_value(usage.swap))


def _network(at: int, interfaces: tuple[InterfaceUsage, ...]) -> cri.NetworkUsage:
    """`eth0` is the default interface, else the first one."""
    named = [one for one in interfaces if one.name == _DEFAULT_INTERFACE] or list(interfaces[:1])
    return cri.NetworkUsage(
        timestamp=at,
        default_interface=_interface(named[0]) if named else None,
        interfaces=[_interface(one) for one in interfaces if one not in named],
    )


def _interface(usage: InterfaceUsage) -> cri.NetworkInterfaceUsage:
    return cri.NetworkInterfaceUsage(
        name=usage.name,
        rx_bytes=_value(usage.rx_bytes),
        rx_errors=_value(usage.rx_errors),
        tx_bytes=_value(usage.tx_bytes),
        tx_errors=_value(usage.tx_errors),
    )


def _psi(pressure: Pressure | None) -> cri.PsiStats | None:
    return cri.PsiStats(Full=_stall(pressure.full), Some=_stall(pressure.some)) if pressure else None


def _stall(stall: Stall) -> cri.PsiData:
    return cri.PsiData(Total=stall.total, Avg10=stall.avg10, Avg60=stall.avg60, Avg300=stall.avg300)


def _value(number: int | None) -> cri.UInt64Value | None:
    return None if number is None else cri.UInt64Value(value=number)
