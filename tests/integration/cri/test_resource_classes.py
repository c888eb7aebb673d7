"""Limits that a container is made with, as it sees them itself; classes of block I/O and RDT by annotation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness.cri import INVALID, Cri, pod_config, refused
from tests.harness.daemon import Daemon, serving
from tests.integration.conftest import Pods, insecure

MIB = 1 << 20
FAILED = grpc.StatusCode.FAILED_PRECONDITION
UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers").exists()
OWN, POD = "io.kubernetes.cri.blockio-class", "blockio.resources.beta.kubernetes.io"
DEVICE = Path("/dev/loop0")
SWAP = Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
CLASSES = f"""
Classes:
  slow:
    - Weight: 80
    - Devices: ["/dev/loop[0]", /dev/no-such-disk]
      ThrottleReadBps: 50M
      ThrottleWriteIOPS: 1k
  slower:
    - Devices: [{DEVICE}]
      ThrottleReadBps: 1M
"""


@pytest.fixture(scope="module")
def daemon(system_users: None, registry) -> Iterator[Daemon]:
    """One whose configuration has classes."""
    mine = Daemon(insecure(registry.address))
    file = mine.folder / "blockio.yaml"
    file.write_text(CLASSES)
    with serving(mine, runtime={"blockio_config_file": str(file), "default_pids_limit": 77}):
        yield mine


def limits(cri: Cri, container: str) -> dict[str, str]:
    """The files of the container's cgroup about block I/O."""
    pid = cri.pid(container)
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "blkio" in controllers.split(","):
            folder = Path("/sys/fs/cgroup/blkio") / path[1:]
            return {one.name: one.read_text().strip() for one in folder.glob("blkio.*") if one.stat().st_mode & 0o400}
    raise AssertionError("no blkio")


@pytest.mark.skipif(UNIFIED, reason="reads cgroup v1 files")
@pytest.mark.parametrize("handler", ["runc", "crun"])
def test_limits_hold_inside_and_what_the_host_lacks_is_left_out(
    cri: Cri, pods: Pods, daemon: Daemon, handler: str
) -> None:
    asked = pb.LinuxContainerResources(
        cpu_shares=333, cpu_quota=30_000, cpu_period=60_000, memory_limit_in_bytes=48 * MIB,
        memory_swap_limit_in_bytes=80 * MIB, cpuset_cpus="0", cpuset_mems="0", oom_score_adj=444,
        hugepage_limits=[pb.HugepageLimit(page_size="2MB", limit=0)],
    )  # fmt: skip
    pod = pods(handler=handler)
    container = pod.run("sleep", "600", resources=asked)
    files = {
        "cpu/cpu.shares": "333", "cpu/cpu.cfs_quota_us": "30000", "cpu/cpu.cfs_period_us": "60000",
        "memory/memory.limit_in_bytes": str(48 * MIB), "memory/memory.memsw.limit_in_bytes": str(80 * MIB),
        "cpuset/cpuset.cpus": "0", "cpuset/cpuset.mems": "0", "pids/pids.max": "77",
    }  # fmt: skip
    for file, value in files.items():
        if (Path("/sys/fs/cgroup", file).parent.exists() and "memsw" not in file) or SWAP:
            assert cri.output(container, "cat", f"/sys/fs/cgroup/{file}").strip() == value, file
    assert cri.output(container, "cat", "/proc/1/oom_score_adj").strip() == "444"
    assert cri.output(container, "nproc").strip() == "1"
    if not Path("/sys/fs/cgroup/hugetlb").exists():
        assert "hugepageLimits" not in cri.info(container)["runtimeSpec"]["linux"]["resources"]
        assert "hugepage_limits: the host has no hugetlb controller" in daemon.log.read_text()
    shown = cri.container(container).resources.linux
    assert (shown.cpu_shares, shown.memory_swap_limit_in_bytes, shown.oom_score_adj) == (333, 80 * MIB, 444)
    with refused(INVALID, "linux.resources.unified", "no cgroup v2"):
        pod.create("true", resources=pb.LinuxContainerResources(unified={"memory.high": "1000000"}))


@pytest.mark.skipif(UNIFIED or not DEVICE.is_block_device(), reason="reads cgroup v1 files of a loop device")
@pytest.mark.parametrize("handler", ["runc", "crun"])
def test_a_class_holds_in_the_cgroup(cri: Cri, pods: Pods, daemon: Daemon, handler: str) -> None:
    config = pod_config(daemon.logs, annotations={f"{POD}/pod": "slower", f"{POD}/container.one": "slow"})
    pod = pods(config, handler=handler)
    found = limits(cri, pod.run("sleep", "600"))
    assert found["blkio.throttle.read_bps_device"] == "7:0 1000000"
    assert found["blkio.throttle.write_iops_device"] == ""
    container = pod.run("sleep", "600", annotations={OWN: "slow"})
    found = limits(cri, container)
    assert found["blkio.throttle.read_bps_device"] == "7:0 50000000"
    assert found["blkio.throttle.write_iops_device"] == "7:0 1000"
    if "blkio.bfq.weight" in found:
        assert "80" in found["blkio.bfq.weight"]
    assert cri.info(container)["provenance"]["linux.resources.blockIO"] == "request"
    cri.call(
        "UpdateContainerResources", container_id=container,
        linux=pb.LinuxContainerResources(memory_limit_in_bytes=64 * MIB),
    )  # fmt: skip
    assert limits(cri, container) == found
    assert "blockIO" in cri.info(container)["runtimeSpec"]["linux"]["resources"]
    assert limits(cri, pod.run("sleep", "600", annotations={OWN: ""}))["blkio.throttle.read_bps_device"] == ""


def test_a_class_that_is_not_there_is_refused_by_the_annotations_name(pods: Pods) -> None:
    with refused(INVALID, f"config.annotations[{OWN}]", "'gold' is unknown", "slow, slower"):
        pods().create("true", annotations={OWN: "gold"})


def test_a_file_that_does_not_read_stops_those_that_need_it_alone(pods: Pods, daemon: Daemon) -> None:
    file = daemon.folder / "blockio.yaml"
    try:
        file.write_text("Classes: {slow: [{Weight: 5}]}")
        pod = pods()
        with refused(FAILED, str(file), "class 'slow', part 0", "weight 5"):
            pod.create("true", annotations={OWN: "slow"})
        pod.create("true")
    finally:
        file.write_text(CLASSES)


def test_an_rdt_class_is_refused_where_the_host_has_none(pods: Pods, daemon: Daemon) -> None:
    if Path("/sys/fs/resctrl/schemata").exists():
        pytest.skip("this host has resctrl")
    pod = pods(pod_config(daemon.logs, annotations={"rdt.resources.beta.kubernetes.io/container.two": "gold"}))
    with refused(FAILED, "config.annotations[io.kubernetes.cri.rdt-class]", "no resctrl"):
        pod.create("true", annotations={"io.kubernetes.cri.rdt-class": "gold"})
    pod.create("true")
