"""Readings as the CRI shows them: everything known, nothing unknown."""

from __future__ import annotations

from kernel.contracts.stats import CgroupUsage, ContainerUsage, InterfaceUsage, PodUsage, Pressure, Stall
from kernel.contracts.storage import Usage
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.responses import stats_views
from kernel.front.responses.rates import Rate
from kernel.ids import ContainerId, SandboxId

CONTAINER, POD = ContainerId("b" * 64), SandboxId("a" * 64)
NONE = Stall(total=0, avg10=0.0, avg60=0.0, avg300=0.0)
PRESSURE = Pressure(some=Stall(total=7, avg10=1.5, avg60=0.5, avg300=0.25), full=NONE)


def interface(name: str, rx: int) -> InterfaceUsage:
    return InterfaceUsage(
        name=name, rx_bytes=rx, rx_packets=0, rx_errors=0, rx_dropped=0, tx_bytes=2, tx_packets=0, tx_errors=0,
        tx_dropped=0,
    )  # fmt: skip


def test_a_container_that_is_known_whole() -> None:
    usage = CgroupUsage(
        at=5, cpu=100, memory=50, working_set=40, rss=30, page_faults=3, major_page_faults=0, memory_limit=64, swap=0,
        swap_limit=10, cpu_pressure=PRESSURE, memory_pressure=PRESSURE, io_pressure=PRESSURE,
    )  # fmt: skip
    found = cri.ContainerStats()
    stats_views.container_stats(
        found, ContainerUsage(container_id=CONTAINER, usage=usage, processes=1), Rate(5, 100, 9)
    )
    assert found.cpu.timestamp == found.memory.timestamp == found.swap.timestamp == found.io.timestamp == 5
    assert (found.cpu.usage_core_nano_seconds.value, found.cpu.usage_nano_cores.value) == (100, 9)
    memory = found.memory
    assert (memory.usage_bytes.value, memory.working_set_bytes.value, memory.available_bytes.value) == (50, 40, 24)
    assert (memory.rss_bytes.value, memory.page_faults.value) == (30, 3)
    assert memory.HasField("major_page_faults"), "none happened is not unknown"
    assert (found.swap.swap_available_bytes.value, found.swap.HasField("swap_usage_bytes")) == (10, True)
    for pressure in (found.cpu.psi, found.memory.psi, found.io.psi):
        assert (pressure.Some.Total, pressure.Some.Avg10, pressure.HasField("Full")) == (7, 1.5, True)


def test_what_the_kernel_does_not_say_is_left_out() -> None:
    found = cri.ContainerStats()
    reading = ContainerUsage(container_id=CONTAINER, usage=CgroupUsage(at=5), processes=1)
    stats_views.container_stats(found, reading, None)
    assert found.cpu == cri.CpuUsage(timestamp=5)
    assert found.memory == cri.MemoryUsage(timestamp=5)
    assert found.swap == cri.SwapUsage(timestamp=5)
    assert not found.HasField("io")


def test_without_a_limit_nothing_is_said_of_what_is_available() -> None:
    found = cri.ContainerStats()
    usage = CgroupUsage(at=5, working_set=40, memory_limit=0, swap=3)
    stats_views.container_stats(found, ContainerUsage(container_id=CONTAINER, usage=usage, processes=1), None)
    assert not found.memory.HasField("available_bytes")
    assert not found.swap.HasField("swap_available_bytes")


def test_a_pod_with_two_interfaces() -> None:
    found = cri.LinuxPodSandboxStats()
    interfaces = (interface("net1", 1), interface("eth0", 2))
    pod = PodUsage(sandbox_id=POD, usage=CgroupUsage(at=5, cpu=1), processes=3, containers=(), interfaces=interfaces)
    stats_views.pod_stats(found, pod, None)
    assert (found.network.default_interface.name, found.network.default_interface.rx_bytes.value) == ("eth0", 2)
    assert [one.name for one in found.network.interfaces] == ["net1"]
    assert found.process.process_count.value == 3


def test_a_pod_on_the_hosts_network_has_none_of_its_own() -> None:
    found = cri.LinuxPodSandboxStats()
    stats_views.pod_stats(found, PodUsage(sandbox_id=POD, usage=CgroupUsage(at=5), processes=0, containers=()), None)
    assert not found.HasField("network")


def test_a_writable_layer() -> None:
    found = cri.FilesystemUsage()
    stats_views.writable_layer(found, Usage(bytes=4096, inodes=2), 5, "/there")
    assert (found.timestamp, found.fs_id.mountpoint, found.used_bytes.value, found.inodes_used.value) == (
        5, "/there", 4096, 2,
    )  # fmt: skip
