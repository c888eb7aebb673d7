"""What the runtime worker reads of pods and containers in cgroups and network namespaces. Pure.

None means that the kernel does not say: a controller that is not mounted, a file that this kernel lacks, a cgroup
that has gone. Counters are since the cgroup was made; times are nanoseconds, moments nanoseconds since 1970.
"""

from __future__ import annotations

from kernel.contracts.contract import Message
from kernel.ids import ContainerId, SandboxId


class StatsRequest(Message, frozen=True, kw_only=True):
    """A reading of pods with their containers."""

    sandboxes: tuple[SandboxId, ...] = ()
    """All where empty; one that is not here is left out of the answer."""
    detail: bool = False
    """With what only metrics show; it takes several times as long."""


class Stall(Message, frozen=True, kw_only=True):
    """One line of a pressure file: how long tasks waited, and the part of the time in percent."""

    total: int
    """Nanoseconds."""
    avg10: float
    avg60: float
    avg300: float


class Pressure(Message, frozen=True, kw_only=True):
    """Pressure stall information: `some` tasks waited, or all (`full`)."""

    some: Stall
    full: Stall


class CgroupUsage(Message, frozen=True, kw_only=True):
    """What a cgroup and all below it use."""

    at: int
    cpu: int | None = None
    memory: int | None = None
    """With page cache."""
    working_set: int | None = None
    """Without the page cache that can be dropped first."""
    rss: int | None = None
    page_faults: int | None = None
    major_page_faults: int | None = None
    memory_limit: int | None = None
    """0: none."""
    swap: int | None = None
    swap_limit: int | None = None
    """None too where there is none; 0 where nothing may be swapped out."""
    cpu_pressure: Pressure | None = None
    memory_pressure: Pressure | None = None
    io_pressure: Pressure | None = None


class DeviceUsage(Message, frozen=True, kw_only=True):
    """What a cgroup read from and wrote to a block device."""

    major: int
    minor: int
    name: str
    """Below /dev; empty where nobody knows."""
    read_bytes: int = 0
    write_bytes: int = 0
    reads: int = 0
    writes: int = 0


class PageSizeUsage(Message, frozen=True, kw_only=True):
    """Huge pages of one size, in bytes."""

    size: str
    """As the kernel's files are named: 2MB."""
    usage: int
    most: int | None = None


class Detail(Message, frozen=True, kw_only=True):
    """What only metrics show of a container."""

    cpu_user: int | None = None
    cpu_system: int | None = None
    cpu_periods: int | None = None
    cpu_throttled_periods: int | None = None
    cpu_throttled: int | None = None
    """Nanoseconds."""
    cpu_shares: int | None = None
    cpu_period: int | None = None
    """Microseconds, as the quota."""
    cpu_quota: int | None = None
    """0: none."""
    memory_cache: int | None = None
    memory_mapped_file: int | None = None
    memory_kernel: int | None = None
    memory_most: int | None = None
    memory_fail_count: int | None = None
    memory_reservation: int | None = None
    """0: none."""
    own_page_faults: int | None = None
    """Of the cgroup without those below it, where the kernel tells them apart."""
    own_major_page_faults: int | None = None
    oom_kills: int | None = None
    threads: int | None = None
    threads_limit: int | None = None
    """0: none."""
    file_descriptors: int = 0
    sockets: int = 0
    open_files_limit: int | None = None
    """The first process's soft limit."""
    devices: tuple[DeviceUsage, ...] = ()
    huge_pages: tuple[PageSizeUsage, ...] = ()


class ContainerUsage(Message, frozen=True, kw_only=True):
    """A container that has a process."""

    container: ContainerId
    usage: CgroupUsage
    processes: int
    detail: Detail | None = None


class InterfaceUsage(Message, frozen=True, kw_only=True):
    """Counters of a network interface in the pod."""

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

    sandbox: SandboxId
    usage: CgroupUsage
    processes: int
    containers: tuple[ContainerUsage, ...]
    interfaces: tuple[InterfaceUsage, ...] | None = None
    """Without `lo`; None on the host's network."""


class FileSystem(Message, frozen=True, kw_only=True):
    """The file system of the containers' writable layers."""

    device: str
    """Below /dev; empty where it lies on none."""
    bytes: int
    inodes: int
    inodes_free: int


class Stats(Message, frozen=True, kw_only=True):
    """One reading."""

    pods: tuple[PodUsage, ...]
    writable_layers: FileSystem | None = None
    """Only with detail."""
