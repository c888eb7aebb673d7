"""Metric and MetricDescriptor of the CRI: the metrics of containers and pods, named and labelled as by cAdvisor. Pure.

The CRI carries whole numbers (Metric.value), and the kubelet passes them on unchanged: seconds are rounded down. A
family without a value on this host has no samples. `CONTAINER` families are those of a container, `POD` families are
those of a pod's network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from kernel.contracts.stats import (
    CgroupUsage,
    ContainerUsage,
    Detail,
    DeviceUsage,
    FileSystem,
    InterfaceUsage,
    PodUsage,
    Pressure,
    Stall,
)
from kernel.contracts.storage import Usage
from kernel.cri.generated import cri_pb2 as cri

LABELS = ("container", "id", "image", "name", "namespace", "pod")
"""The first labels of every metric."""
_SECOND = 1_000_000_000
"""Nanoseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Everything that is known about one container."""

    reading: ContainerUsage
    started_at: int
    """When it was started, in nanoseconds since 1970; 0 if it was not."""
    layer: Usage | None
    """The size of its writable layer; None if it was not measured."""
    file_system: FileSystem | None
    """The file system of the writable layers."""

    @property
    def usage(self) -> CgroupUsage:
        """The numbers of its cgroup."""
        return self.reading.usage

    @property
    def detail(self) -> Detail:
        """The numbers that are read only for metrics; all are None if they were not read."""
        return self.reading.detail or _UNKNOWN


_UNKNOWN = Detail()
_Of = TypeVar("_Of")
Values = Iterable[tuple[tuple[str, ...], int | None]]
"""Samples: the values of the family's own labels, and the number, None if it is not known."""


@dataclass(frozen=True, slots=True)
class Family(Generic[_Of]):
    """A metric with its own labels, and the function that makes its samples of a reading."""

    name: str
    help: str
    type: cri.MetricType.ValueType
    values: Callable[[_Of], Values]
    labels: tuple[str, ...] = ()

    def descriptor(self) -> cri.MetricDescriptor:
        """Return the MetricDescriptor."""
        return cri.MetricDescriptor(name=self.name, help=self.help, label_keys=(*LABELS, *self.labels))


def metrics(families: Iterable[Family[_Of]], of: _Of, at: int, labels: tuple[str, ...]) -> list[cri.Metric]:
    """Return a Metric for each sample with a number.

    `labels` are the values of `LABELS`; `at` is when the numbers were read, in nanoseconds since 1970.
    """
    found = []
    for family in families:
        for own, value in family.values(of):
            if value is not None:
                metric = cri.Metric(
                    name=family.name,
                    timestamp=at,
                    metric_type=family.type,
                    label_values=(*labels, *own),
                    value=cri.UInt64Value(value=value),
                )
                found.append(metric)
    return found


def _counter(name: str, text: str, value: Callable[[Subject], int | None], scale: int = 1) -> Family[Subject]:
    return Family(name, text, cri.COUNTER, lambda one: [((), _scaled(value(one), scale))])


def _gauge(name: str, text: str, value: Callable[[Subject], int | None], scale: int = 1) -> Family[Subject]:
    return Family(name, text, cri.GAUGE, lambda one: [((), _scaled(value(one), scale))])


def _scaled(value: int | None, scale: int) -> int | None:
    return None if value is None else value // scale


def _pressure(
    resource: str, how: str, of: Callable[[CgroupUsage], Pressure | None], line: Callable[[Pressure], Stall]
) -> Family[Subject]:
    def total(one: Subject) -> int | None:
        found = of(one.usage)
        return line(found).total if found else None

    who = "all tasks" if how == "stalled" else "some task"
    text = f"Time during which {who} of the container waited for {resource}, in seconds."
    return _counter(f"container_pressure_{resource}_{how}_seconds_total", text, total, _SECOND)


def _devices(name: str, text: str, value: Callable[[DeviceUsage], int]) -> Family[Subject]:
    def values(one: Subject) -> Values:
        return [((_path(device.name),), value(device)) for device in one.detail.devices]

    return Family(name, text, cri.COUNTER, values, ("device",))


def _device_operations(one: Subject) -> Values:
    for device in one.detail.devices:
        numbers = (_path(device.name), str(device.major), str(device.minor))
        yield (*numbers, "Read"), device.read_bytes
        yield (*numbers, "Write"), device.write_bytes


def _file_system(name: str, text: str, value: Callable[[Subject, FileSystem], int | None]) -> Family[Subject]:
    def values(one: Subject) -> Values:
        return [((_path(one.file_system.device),), value(one, one.file_system))] if one.file_system else []

    return Family(name, text, cri.GAUGE, values, ("device",))


def _path(device: str) -> str:
    return f"/dev/{device}" if device else ""


def _faults(one: Subject) -> Values:
    return [
        (("pgfault", "container"), one.detail.own_page_faults),
        (("pgfault", "hierarchy"), one.usage.page_faults),
        (("pgmajfault", "container"), one.detail.own_major_page_faults),
        (("pgmajfault", "hierarchy"), one.usage.major_page_faults),
    ]


def _open_files(one: Subject) -> Values:
    return [(("max_open_files",), one.detail.open_files_limit)]


def _interfaces(name: str, text: str, value: Callable[[InterfaceUsage], int]) -> Family[PodUsage]:
    def values(pod: PodUsage) -> Values:
        return [((one.name,), value(one)) for one in pod.interfaces or ()]

    return Family(f"container_network_{name}_total", text, cri.COUNTER, values, ("interface",))


CONTAINER: tuple[Family[Subject], ...] = (
    Family("container_blkio_device_usage_total", "Bytes moved to and from block devices, by operation.", cri.COUNTER,
           _device_operations, ("device", "major", "minor", "operation")),
    _counter("container_cpu_cfs_periods_total", "Enforcement periods of the CPU quota.",
             lambda one: one.detail.cpu_periods),
    _counter("container_cpu_cfs_throttled_periods_total", "Enforcement periods in which the container was throttled.",
             lambda one: one.detail.cpu_throttled_periods),
    _counter("container_cpu_cfs_throttled_seconds_total", "Time for which the container was throttled, in seconds.",
             lambda one: one.detail.cpu_throttled, _SECOND),
    _counter("container_cpu_system_seconds_total", "CPU time in the kernel, in seconds.",
             lambda one: one.detail.cpu_system, _SECOND),
    Family("container_cpu_usage_seconds_total", "CPU time, in seconds.", cri.COUNTER,
           lambda one: [(("total",), _scaled(one.usage.cpu, _SECOND))], ("cpu",)),
    _counter("container_cpu_user_seconds_total", "CPU time outside of the kernel, in seconds.",
             lambda one: one.detail.cpu_user, _SECOND),
    _gauge("container_file_descriptors", "Open file descriptors of the container's processes.",
           lambda one: one.detail.file_descriptors),
    _file_system("container_fs_inodes_free", "Free inodes of the file system that the writable layer is on.",
                 lambda one, fs: fs.inodes_free),
    _file_system("container_fs_inodes_total", "Inodes of the file system that the writable layer is on.",
                 lambda one, fs: fs.inodes),
    _file_system("container_fs_limit_bytes", "Size of the file system that the writable layer is on.",
                 lambda one, fs: fs.bytes),
    _devices("container_fs_reads_bytes_total", "Bytes read from the device.", lambda device: device.read_bytes),
    _devices("container_fs_reads_total", "Reads from the device.", lambda device: device.reads),
    _file_system("container_fs_usage_bytes", "Size of the writable layer.",
                 lambda one, fs: one.layer.bytes if one.layer else 0),
    _devices("container_fs_writes_bytes_total", "Bytes written to the device.", lambda device: device.write_bytes),
    _devices("container_fs_writes_total", "Writes to the device.", lambda device: device.writes),
    Family("container_hugetlb_max_usage_bytes", "The most memory in huge pages so far.", cri.GAUGE,
           lambda one: [((page.size,), page.most) for page in one.detail.huge_pages], ("pagesize",)),
    Family("container_hugetlb_usage_bytes", "Memory in huge pages.", cri.GAUGE,
           lambda one: [((page.size,), page.usage) for page in one.detail.huge_pages], ("pagesize",)),
    _gauge("container_last_seen", "When the container was last read, in seconds since 1970.",
           lambda one: one.usage.at, _SECOND),
    _gauge("container_memory_cache", "Page cache.", lambda one: one.detail.memory_cache),
    _counter("container_memory_failcnt", "How often memory reached its limit.",
             lambda one: one.detail.memory_fail_count),
    Family("container_memory_failures_total", "Page faults.", cri.COUNTER, _faults, ("failure_type", "scope")),
    _gauge("container_memory_kernel_usage", "Memory that the kernel uses for the container.",
           lambda one: one.detail.memory_kernel),
    _gauge("container_memory_mapped_file", "Memory of mapped files.", lambda one: one.detail.memory_mapped_file),
    _gauge("container_memory_max_usage_bytes", "The most memory so far.", lambda one: one.detail.memory_most),
    _gauge("container_memory_rss", "Memory that is not backed by a file.", lambda one: one.usage.rss),
    _gauge("container_memory_swap", "Memory that is swapped out.", lambda one: one.usage.swap),
    _gauge("container_memory_usage_bytes", "Memory with page cache.", lambda one: one.usage.memory),
    _gauge("container_memory_working_set_bytes", "Memory without the page cache that can be dropped first.",
           lambda one: one.usage.working_set),
    _counter("container_oom_events_total", "Processes that the kernel killed for want of memory.",
             lambda one: one.detail.oom_kills),
    _pressure("cpu", "stalled", lambda usage: usage.cpu_pressure, lambda found: found.full),
    _pressure("cpu", "waiting", lambda usage: usage.cpu_pressure, lambda found: found.some),
    _pressure("io", "stalled", lambda usage: usage.io_pressure, lambda found: found.full),
    _pressure("io", "waiting", lambda usage: usage.io_pressure, lambda found: found.some),
    _pressure("memory", "stalled", lambda usage: usage.memory_pressure, lambda found: found.full),
    _pressure("memory", "waiting", lambda usage: usage.memory_pressure, lambda found: found.some),
    _gauge("container_processes", "Processes in the container.", lambda one: one.reading.processes),
    _gauge("container_sockets", "Open sockets of the container's processes.", lambda one: one.detail.sockets),
    _gauge("container_spec_cpu_period", "Enforcement period of the CPU quota, in microseconds.",
           lambda one: one.detail.cpu_period),
    _gauge("container_spec_cpu_quota", "CPU quota in a period, in microseconds; 0 for none.",
           lambda one: one.detail.cpu_quota),
    _gauge("container_spec_cpu_shares", "CPU shares.", lambda one: one.detail.cpu_shares),
    _gauge("container_spec_memory_limit_bytes", "Memory limit; 0 for none.", lambda one: one.usage.memory_limit),
    _gauge("container_spec_memory_reservation_limit_bytes", "Memory that is spared by reclaim; 0 for none.",
           lambda one: one.detail.memory_reservation),
    _gauge("container_spec_memory_swap_limit_bytes", "Most memory that may be swapped out; 0 for none or no limit.",
           lambda one: one.usage.swap_limit or 0),
    _gauge("container_start_time_seconds", "When the container was started, in seconds since 1970.",
           lambda one: one.started_at, _SECOND),
    _gauge("container_threads", "Threads in the container.", lambda one: one.detail.threads),
    _gauge("container_threads_max", "Most threads that the container may have; 0 for no limit.",
           lambda one: one.detail.threads_limit),
    Family("container_ulimits_soft", "Soft limits of the container's first process.", cri.GAUGE, _open_files,
           ("ulimit",)),
)  # fmt: skip
POD: tuple[Family[PodUsage], ...] = (
    _interfaces("receive_bytes", "Bytes received.", lambda one: one.rx_bytes),
    _interfaces("receive_errors", "Errors while receiving.", lambda one: one.rx_errors),
    _interfaces("receive_packets_dropped", "Received packets that were dropped.", lambda one: one.rx_dropped),
    _interfaces("receive_packets", "Packets received.", lambda one: one.rx_packets),
    _interfaces("transmit_bytes", "Bytes sent.", lambda one: one.tx_bytes),
    _interfaces("transmit_errors", "Errors while sending.", lambda one: one.tx_errors),
    _interfaces("transmit_packets_dropped", "Packets to send that were dropped.", lambda one: one.tx_dropped),
    _interfaces("transmit_packets", "Packets sent.", lambda one: one.tx_packets),
)
