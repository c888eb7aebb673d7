"""Usage of pods and containers, as the runtime worker reads it from cgroups and network namespaces. Pure.

None means that the kernel does not provide the value: the controller is not mounted, this kernel lacks the file, or the
cgroup has gone. Counters start when the cgroup is made. Memory is in bytes; times are nanoseconds, moments nanoseconds
since 1970.
"""

from __future__ import annotations

from kernel.contracts.definition import Message
from kernel.ids import ContainerId, SandboxId


class StatsRequest(Message, frozen=True, kw_only=True):
    """The pods to read, with their containers."""

    sandboxes: tuple[SandboxId, ...] = ()
    """Ids of the pods; all pods if empty. The reply leaves out pods that do not exist."""
    detail: bool = False
    """Whether to read what only metrics show, which takes several times as long."""


class Stall(Message, frozen=True, kw_only=True):
    """One line of a pressure file: how long tasks waited (Linux, accounting/psi)."""

    total: int
    """Nanoseconds."""
    avg10: float
    """Share of the last 10 seconds, in percent."""
    avg60: float
    """Share of the last 60 seconds, in percent."""
    avg300: float
    """Share of the last 300 seconds, in percent."""


class Pressure(Message, frozen=True, kw_only=True):
    """Pressure stall information."""

    some: Stall
    """The time in which at least one task waited."""
    full: Stall
    """The time in which all tasks waited."""


class CgroupUsage(Message, frozen=True, kw_only=True):
    """Usage of a cgroup and of all below it."""

    at: int
    """When it was read."""
    cpu: int | None = None
    """CPU time used, in nanoseconds."""
    memory: int | None = None
    """Memory with the page cache."""
    working_set: int | None = None
    """Memory without the part of the page cache that the kernel drops first."""
    rss: int | None = None
    """Anonymous memory."""
    page_faults: int | None = None
    major_page_faults: int | None = None
    memory_limit: int | None = None
    """0 if there is none."""
    swap: int | None = None
    swap_limit: int | None = None
    """None also if there is none; 0 if nothing may be swapped out."""
    cpu_pressure: Pressure | None = None
    memory_pressure: Pressure | None = None
    io_pressure: Pressure | None = None


class DeviceUsage(Message, frozen=True, kw_only=True):
    """The traffic of a cgroup with one block device."""

    major: int
    minor: int
    name: str
    """The device's name below /dev; empty if it is unknown."""
    read_bytes: int = 0
    write_bytes: int = 0
    reads: int = 0
    writes: int = 0


class PageSizeUsage(Message, frozen=True, kw_only=True):
    """Huge pages of one size."""

    size: str
    """The size in the form of the kernel's file names: `2MB`."""
    usage: int
    """Bytes."""
    most: int | None = None
    """The highest usage so far, in bytes."""


class Detail(Message, frozen=True, kw_only=True):
    """The figures of a container that only metrics show."""

    cpu_user: int | None = None
    """Nanoseconds."""
    cpu_system: int | None = None
    """Nanoseconds."""
    cpu_periods: int | None = None
    """Periods of the quota that have passed."""
    cpu_throttled_periods: int | None = None
    """Periods in which the quota was used up."""
    cpu_throttled: int | None = None
    """Nanoseconds."""
    cpu_shares: int | None = None
    """Relative weight; 1024 is the default."""
    cpu_period: int | None = None
    """Microseconds."""
    cpu_quota: int | None = None
    """Microseconds of CPU time per period; 0 if there is no limit."""
    memory_cache: int | None = None
    memory_mapped_file: int | None = None
    memory_kernel: int | None = None
    memory_most: int | None = None
    """The highest usage so far."""
    memory_fail_count: int | None = None
    """The number of times that usage reached the limit."""
    memory_reservation: int | None = None
    """0 if there is none."""
    own_page_faults: int | None = None
    """Page faults of the cgroup itself, without the cgroups below it, if the kernel counts them separately."""
    own_major_page_faults: int | None = None
    oom_kills: int | None = None
    """Processes that the kernel killed because memory was exhausted."""
    threads: int | None = None
    threads_limit: int | None = None
    """0 if there is none."""
    file_descriptors: int = 0
    sockets: int = 0
    open_files_limit: int | None = None
    """The soft limit of the first process."""
    devices: tuple[DeviceUsage, ...] = ()
    huge_pages: tuple[PageSizeUsage, ...] = ()


class ContainerUsage(Message, frozen=True, kw_only=True):
    """A container that has a process."""

    container_id: ContainerId
    usage: CgroupUsage
    processes: int
    """Number of its processes."""
    detail: Detail | None = None
    """None unless the request asks for it."""


class InterfaceUsage(Message, frozen=True, kw_only=True):
    """Counters of a network interface in the pod, in bytes and packets."""

    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


class PodUsage(Message, frozen=True, kw_only=True):
    """A pod and its containers."""

    sandbox_id: SandboxId
    usage: CgroupUsage
    """Usage of the pod's cgroup."""
    processes: int
    """Number of the pod's processes."""
    containers: tuple[ContainerUsage, ...]
    interfaces: tuple[InterfaceUsage, ...] | None = None
    """All but `lo`; None if the pod is on the host's network."""


class FileSystem(Message, frozen=True, kw_only=True):
    """The file system of the containers' writable layers."""

    device: str
    """The device's name below /dev; empty if there is no device."""
    bytes: int
    """Its size."""
    inodes: int
    """The number of inodes that it can have."""
    inodes_free: int


class Stats(Message, frozen=True, kw_only=True):
    """One reading."""

    pods: tuple[PodUsage, ...]
    writable_layers: FileSystem | None = None
    """None unless the request asks for detail."""
