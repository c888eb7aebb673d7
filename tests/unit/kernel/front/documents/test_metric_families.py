"""The metrics' names, labels and values."""

from __future__ import annotations

from kernel.contracts.stats import (
    CgroupUsage,
    ContainerUsage,
    Detail,
    DeviceUsage,
    FileSystem,
    InterfaceUsage,
    PageSizeUsage,
    PodUsage,
    Pressure,
    Stall,
)
from kernel.contracts.storage import Usage
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.documents import metric_families
from kernel.front.documents.metric_families import CONTAINER, LABELS, POD, Subject
from kernel.ids import ContainerId, SandboxId

WHO = ("main", "b" * 64, "busybox", "b" * 64, "default", "web")
STALL = Stall(total=7_900_000_000, avg10=0.0, avg60=0.0, avg300=0.0)
PRESSURE = Pressure(some=STALL, full=STALL)
USAGE = CgroupUsage(
    at=5_000_000_000, cpu=3_900_000_000, memory=50, working_set=40, rss=30, page_faults=3, major_page_faults=1,
    memory_limit=64, swap=0, cpu_pressure=PRESSURE, memory_pressure=PRESSURE, io_pressure=PRESSURE,
)  # fmt: skip
DETAIL = Detail(
    cpu_user=1, cpu_system=2, cpu_periods=3, cpu_throttled_periods=4, cpu_throttled=5, cpu_shares=6, cpu_period=7,
    cpu_quota=8, memory_cache=9, memory_mapped_file=10, memory_kernel=11, memory_most=12, memory_fail_count=13,
    memory_reservation=14, own_page_faults=15, own_major_page_faults=16, oom_kills=17, threads=18, threads_limit=19,
    file_descriptors=20, sockets=21, open_files_limit=22,
    devices=(DeviceUsage(major=8, minor=0, name="sda", read_bytes=23, write_bytes=24, reads=25, writes=26),),
    huge_pages=(PageSizeUsage(size="2MB", usage=27, most=28),),
)  # fmt: skip


def subject(detail: Detail | None = DETAIL, usage: CgroupUsage = USAGE) -> Subject:
    return Subject(
        reading=ContainerUsage(container_id=ContainerId("b" * 64), usage=usage, processes=2, detail=detail),
        started_at=4_000_000_000,
        layer=Usage(bytes=8192, inodes=3),
        file_system=FileSystem(device="sda", bytes=100, inodes=10, inodes_free=9),
    )


def values(found: list[cri.Metric]) -> dict[tuple[str, ...], int]:
    return {(one.name, *one.label_values[len(LABELS) :]): one.value.value for one in found}


def test_every_family_is_described_once_and_has_as_many_values_as_labels() -> None:
    families = {family.name: family.descriptor() for family in (*CONTAINER, *POD)}
    assert len(families) == len(CONTAINER) + len(POD) == 56
    found = metric_families.metrics(CONTAINER, subject(), 1, WHO)
    assert {one.name for one in found} == {family.name for family in CONTAINER}
    for metric in found:
        assert len(metric.label_values) == len(families[metric.name].label_keys)
        assert tuple(metric.label_values[: len(LABELS)]) == WHO
        assert metric.timestamp == 1
    assert all(one.help and list(one.label_keys[: len(LABELS)]) == list(LABELS) for one in families.values())


def test_values() -> None:
    found = values(metric_families.metrics(CONTAINER, subject(), 1, WHO))
    assert found["container_cpu_usage_seconds_total", "total"] == 3
    assert found["container_pressure_io_waiting_seconds_total",] == 7
    assert found["container_start_time_seconds",] == 4
    assert found["container_fs_usage_bytes", "/dev/sda"] == 8192
    assert found["container_fs_writes_total", "/dev/sda"] == 26
    assert found["container_blkio_device_usage_total", "/dev/sda", "8", "0", "Read"] == 23
    assert found["container_memory_failures_total", "pgfault", "container"] == 15
    assert found["container_memory_failures_total", "pgmajfault", "hierarchy"] == 1
    assert found["container_ulimits_soft", "max_open_files"] == 22
    assert found["container_hugetlb_usage_bytes", "2MB"] == 27


def test_what_is_not_known_has_no_sample() -> None:
    found = {one.name for one in metric_families.metrics(CONTAINER, subject(None, CgroupUsage(at=1)), 1, WHO)}
    assert "container_processes" in found
    assert not found & {"container_memory_rss", "container_pressure_cpu_waiting_seconds_total", "container_threads"}


def test_the_network_is_the_pods() -> None:
    eth0 = InterfaceUsage(
        name="eth0", rx_bytes=1, rx_packets=2, rx_errors=3, rx_dropped=4, tx_bytes=5, tx_packets=6, tx_errors=7,
        tx_dropped=8,
    )  # fmt: skip
    pod = PodUsage(sandbox_id=SandboxId("a" * 64), usage=USAGE, processes=0, containers=(), interfaces=(eth0,))
    found = values(metric_families.metrics(POD, pod, 1, WHO))
    assert found["container_network_receive_packets_dropped_total", "eth0"] == 4
    assert found["container_network_transmit_bytes_total", "eth0"] == 5
    assert len(found) == len(POD)
