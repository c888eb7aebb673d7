"""UpdateContainerResources and UpdatePodSandboxResources, seen in status, in cgroups and after restarts."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness.cri import pod_config, refused
from tests.harness.daemon import DRIVER
from tests.harness.host import until

MIB = 1 << 20
V1 = Path("/sys/fs/cgroup/memory")
UNIFIED = not V1.is_dir()
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
needs_cgroupfs = pytest.mark.skipif(DRIVER == "systemd", reason="the slices that crisp makes have no limits")
SLEEP = "trap 'exit 0' TERM; sleep 600 & wait"


def limits(cgroup: str) -> dict[str, str]:
    """What the kernel holds of the limits that these tests set."""
    if UNIFIED:
        names = {"memory": "memory.max", "cpu": "cpu.max", "cpus": "cpuset.cpus", "weight": "cpu.weight"}
        paths = {name: Path(f"/sys/fs/cgroup{cgroup}/{file}") for name, file in names.items()}
        return {name: path.read_text().strip() for name, path in paths.items() if path.exists()}
    files = {
        "memory": "memory/memory.limit_in_bytes", "swap": "memory/memory.memsw.limit_in_bytes",
        "shares": "cpu/cpu.shares", "quota": "cpu/cpu.cfs_quota_us", "period": "cpu/cpu.cfs_period_us",
        "cpus": "cpuset/cpuset.cpus",
    }  # fmt: skip
    found = {}
    for name, file in files.items():
        controller, _, leaf = file.partition("/")
        path = Path(f"/sys/fs/cgroup/{controller}{cgroup}/{leaf}")
        if path.exists():
            found[name] = path.read_text().strip()
    return found


def cgroup_of(cri, pod, container: str) -> str:
    if UNIFIED:  # where its process is: crun makes one more inside a scope
        return Path(f"/proc/{cri.pid(container)}/cgroup").read_text().strip().removeprefix("0::")
    return f"{cri.pod_info(pod.id)['cgroup']}/crisp-{container}{'.scope' if DRIVER == 'systemd' else ''}"


def update(cri, container: str, **resources) -> None:
    cri.call("UpdateContainerResources", container_id=container, linux=pb.LinuxContainerResources(**resources))


@pytest.mark.parametrize("handler", ["runc", "crun"])
def test_new_limits_hold_in_cgroup_status_and_specification(cri, pods, handler):
    pod = pods(handler=handler)
    first = pb.LinuxContainerResources(memory_limit_in_bytes=64 * MIB, cpu_shares=512)
    container = pod.shell(SLEEP, linux=pb.LinuxContainerConfig(resources=first))
    update(
        cri, container, memory_limit_in_bytes=128 * MIB, cpu_quota=50_000, cpu_period=200_000, cpuset_cpus="0",
        hugepage_limits=[pb.HugepageLimit(page_size="2MB", limit=0)],
    )  # fmt: skip
    found = limits(cgroup_of(cri, pod, container))
    assert found["memory"] == str(128 * MIB)
    assert found["cpus"] == "0"
    if UNIFIED:
        assert (found["weight"], found["cpu"]) == ("20", "50000 200000")
    else:
        assert found["swap"] == str(128 * MIB)
        assert (found["shares"], found["quota"], found["period"]) == ("512", "50000", "200000")
    shown = cri.container(container).resources.linux
    assert (shown.memory_limit_in_bytes, shown.cpu_shares, shown.cpu_quota) == (128 * MIB, 512, 50_000)
    assert shown.cpuset_cpus == "0"
    assert cri.info(container)["runtimeSpec"]["linux"]["resources"]["memory"]["limit"] == 128 * MIB
    lower = {} if UNIFIED or "swap" not in found else {"swap": str(32 * MIB)}
    update(cri, container, memory_limit_in_bytes=32 * MIB)
    assert limits(cgroup_of(cri, pod, container)) == {**found, "memory": str(32 * MIB), **lower}


def test_a_created_container_can_be_updated_and_starts_with_the_new_limits(cri, pods):
    pod = pods()
    container = pod.create("sh", "-c", SLEEP)
    update(cri, container, memory_limit_in_bytes=48 * MIB, oom_score_adj=321)
    cri.start(container)
    assert limits(cgroup_of(cri, pod, container))["memory"] == str(48 * MIB)
    assert cri.output(container, "cat", "/proc/1/oom_score_adj").strip() == "321"


def test_a_limit_below_current_use_is_refused_and_changes_nothing(cri, pods):
    pod = pods()
    script = "head -c 40000000 /dev/zero > /dev/shm/ballast; echo full; sleep 600"
    container = pod.shell(script)
    until("the memory is used", lambda: ("stdout", "full") in pod.log(container), 20)
    with refused(FAILED_PRECONDITION, "memory_limit_in_bytes", str(20 * MIB), "current use"):
        update(cri, container, memory_limit_in_bytes=20 * MIB, cpu_shares=99)
    assert cri.container(container).resources.linux.memory_limit_in_bytes == 0
    assert cri.container(container).resources.linux.cpu_shares == 0


def test_updates_that_cannot_be_are_refused_by_name(cri, pods):
    pod = pods()
    container = pod.shell(SLEEP)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "linux.cpu_period"):
        update(cri, container, cpu_period=-5)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "memory_swap_limit_in_bytes"):
        update(cri, container, memory_limit_in_bytes=64 * MIB, memory_swap_limit_in_bytes=32 * MIB)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "linux.resources.cpuset_cpus"):
        update(cri, container, cpuset_cpus="4093")
    with refused(grpc.StatusCode.NOT_FOUND):
        update(cri, "f" * 64, cpu_shares=2)
    cri.stop(container, 5)
    with refused(FAILED_PRECONDITION, "exited"):
        update(cri, container, cpu_shares=200)


def test_new_limits_outlive_every_process(cri, pods, daemon):
    pod = pods()
    container = pod.shell(SLEEP)
    update(cri, container, memory_limit_in_bytes=77 * MIB)
    before = limits(cgroup_of(cri, pod, container))
    daemon.kill_all()
    daemon.start()
    assert cri.container(container).resources.linux.memory_limit_in_bytes == 77 * MIB
    assert limits(cgroup_of(cri, pod, container)) == before
    update(cri, container, cpu_shares=300)  # what was held is still known
    assert cri.container(container).resources.linux.memory_limit_in_bytes == 77 * MIB


@needs_cgroupfs
def test_a_pods_own_cgroup_takes_the_limits_of_all_in_it(cri, pods):
    pod = pods()
    cri.call(
        "UpdatePodSandboxResources", pod_sandbox_id=pod.id,
        overhead=pb.LinuxContainerResources(memory_limit_in_bytes=16 * MIB, cpu_shares=100),
        resources=pb.LinuxContainerResources(memory_limit_in_bytes=256 * MIB, cpu_shares=900),
    )  # fmt: skip
    found = limits(cri.pod_info(pod.id)["cgroup"])
    assert found["memory"] == str(272 * MIB)
    assert found["weight" if UNIFIED else "shares"] == ("39" if UNIFIED else "1000")
    said = cri.info(pod.create("true"))["runtimeSpec"]["annotations"]
    assert said["io.kubernetes.cri.sandbox-memory"] == str(256 * MIB)
    cri.stop_pod(pod.id)
    with refused(FAILED_PRECONDITION, "not ready"):
        cri.call("UpdatePodSandboxResources", pod_sandbox_id=pod.id)


@needs_cgroupfs
def test_a_pod_is_made_with_its_limits_and_a_cgroup_of_the_kubelets_keeps_the_kubelets(cri, pods, daemon):
    asked = {
        "overhead": pb.LinuxContainerResources(memory_limit_in_bytes=16 * MIB),
        "resources": pb.LinuxContainerResources(
            memory_limit_in_bytes=64 * MIB, cpu_shares=300, cpu_quota=50_000, cpu_period=100_000
        ),
    }
    configs = [pod_config(daemon.logs), pod_config(daemon.logs)]
    for config in configs:
        for name, value in asked.items():
            getattr(config.linux, name).CopyFrom(value)
    configs[1].linux.cgroup_parent = f"{daemon.cgroup_parent}/kubepods/pod7"
    own, kubelets = (pods(config) for config in configs)
    container = own.shell("sleep 600")
    found = limits(cri.pod_info(own.id)["cgroup"])
    assert found["memory"] == str(80 * MIB)
    if UNIFIED:
        assert (found["weight"], found["cpu"]) == ("12", "50000 100000")
    else:
        assert (found["shares"], found["quota"]) == ("300", "50000")
    said = cri.info(container)["runtimeSpec"]["annotations"]
    assert said["io.kubernetes.cri.sandbox-memory"] == str(64 * MIB)
    assert json.loads(said["pod-linux-overhead.crio.io"]) == {"memory_limit_in_bytes": 16 * MIB}
    assert limits(cri.pod_info(kubelets.id)["cgroup"]).get("memory") != str(80 * MIB)
