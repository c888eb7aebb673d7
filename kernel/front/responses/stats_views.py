"""ContainerStats, LinuxPodSandboxStats and their parts, made of readings. Pure.

A number that the kernel does not give is left out: a zero would mean that nothing is used. Messages are filled in
place: with a hundred pods that costs a third of putting them together from parts.
"""

from __future__ import annotations

from kernel.contracts.records import Container, Sandbox
from kernel.contracts.stats import CgroupUsage, ContainerUsage, InterfaceUsage, PodUsage, Pressure, Stall
from kernel.contracts.storage import Usage
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.responses import views
from kernel.front.responses.rates import Rate

_DEFAULT_INTERFACE = "eth0"


def container_stats(found: cri.ContainerStats, reading: ContainerUsage, rate: Rate | None) -> None:
    """Fill in ContainerStats.cpu, memory, swap and io. `rate` is the CPU rate, None if it is not known."""
    usage = reading.usage
    _cpu(found.cpu, usage, rate)
    _memory(found.memory, usage)
    swap = found.swap
    swap.timestamp = usage.at
    if usage.swap is not None:
        swap.swap_usage_bytes.value = usage.swap
        if usage.swap_limit is not None:
            swap.swap_available_bytes.value = max(usage.swap_limit - usage.swap, 0)
    if usage.io_pressure is not None:
        found.io.timestamp = usage.at
        _psi(found.io.psi, usage.io_pressure)


def writable_layer(found: cri.FilesystemUsage, usage: Usage, at: int, mountpoint: str) -> None:
    """Fill in ContainerStats.writable_layer; `at` is in nanoseconds since 1970, `mountpoint` the path of the layers."""
    found.timestamp = at
    found.fs_id.mountpoint = mountpoint
    found.used_bytes.value = usage.bytes
    found.inodes_used.value = usage.inodes


def pod_stats(found: cri.LinuxPodSandboxStats, reading: PodUsage, rate: Rate | None) -> None:
    """Fill in LinuxPodSandboxStats.cpu, memory, process, network and io. `rate` is as above."""
    usage = reading.usage
    _cpu(found.cpu, usage, rate)
    _memory(found.memory, usage)
    found.process.timestamp = usage.at
    found.process.process_count.value = reading.processes
    if reading.interfaces is not None:
        _network(found.network, usage.at, reading.interfaces)
    if usage.io_pressure is not None:
        found.io.timestamp = usage.at
        _psi(found.io.psi, usage.io_pressure)


def container_attributes(record: Container) -> cri.ContainerAttributes:
    """Return ContainerAttributes: id, metadata, labels, annotations."""
    config = views.container_config(record)
    return cri.ContainerAttributes(
        id=record.id, metadata=config.metadata, labels=record.labels, annotations=config.annotations
    )


def pod_attributes(record: Sandbox) -> cri.PodSandboxAttributes:
    """Return PodSandboxAttributes: id, metadata, labels, annotations."""
    config = views.pod_config(record)
    return cri.PodSandboxAttributes(
        id=record.id, metadata=config.metadata, labels=record.labels, annotations=config.annotations
    )


def _cpu(found: cri.CpuUsage, usage: CgroupUsage, rate: Rate | None) -> None:
    """Fill in CpuUsage."""
    found.timestamp = usage.at
    if usage.cpu is not None:
        found.usage_core_nano_seconds.value = usage.cpu
    if rate is not None and rate.nano_cores is not None:
        found.usage_nano_cores.value = rate.nano_cores
    if usage.cpu_pressure is not None:
        _psi(found.psi, usage.cpu_pressure)


def _memory(found: cri.MemoryUsage, usage: CgroupUsage) -> None:
    """Fill in MemoryUsage. available_bytes is set only if there is a limit."""
    found.timestamp = usage.at
    if usage.memory is not None:
        found.usage_bytes.value = usage.memory
    if usage.working_set is not None:
        found.working_set_bytes.value = usage.working_set
        if usage.memory_limit:
            found.available_bytes.value = max(usage.memory_limit - usage.working_set, 0)
    if usage.rss is not None:
        found.rss_bytes.value = usage.rss
    if usage.page_faults is not None:
        found.page_faults.value = usage.page_faults
    if usage.major_page_faults is not None:
        found.major_page_faults.value = usage.major_page_faults
    if usage.memory_pressure is not None:
        _psi(found.psi, usage.memory_pressure)


def _network(found: cri.NetworkUsage, at: int, interfaces: tuple[InterfaceUsage, ...]) -> None:
    """Fill in NetworkUsage. Its default_interface is `eth0`, or else the first interface."""
    found.timestamp = at
    default = next((one for one in interfaces if one.name == _DEFAULT_INTERFACE), interfaces[0] if interfaces else None)
    for one in interfaces:
        entry = found.default_interface if one is default else found.interfaces.add()
        entry.name = one.name
        entry.rx_bytes.value, entry.rx_errors.value = one.rx_bytes, one.rx_errors
        entry.tx_bytes.value, entry.tx_errors.value = one.tx_bytes, one.tx_errors


def _psi(found: cri.PsiStats, pressure: Pressure) -> None:
    _stall(found.Full, pressure.full)
    _stall(found.Some, pressure.some)


def _stall(found: cri.PsiData, stall: Stall) -> None:
    found.Total, found.Avg10, found.Avg60, found.Avg300 = stall.total, stall.avg10, stall.avg60, stall.avg300
