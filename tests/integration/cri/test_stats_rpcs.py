"""Statistics of containers and pods: numbers that follow what the containers do, filters, and what does not run."""

from __future__ import annotations

import time

import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness import host
from tests.harness.cri import NOT_FOUND, Cri, pod_config, refused

BUSY = "while :; do :; done"
MIB = 1 << 20


def container_stats(cri: Cri, container: str) -> pb.ContainerStats:
    return cri.call("ContainerStats", container_id=container).stats


def pod_stats(cri: Cri, sandbox: str) -> pb.PodSandboxStats:
    return cri.call("PodSandboxStats", pod_sandbox_id=sandbox).stats


def listed(cri: Cri, **filters) -> dict[str, pb.ContainerStats]:
    found = cri.call("ListContainerStats", filter=pb.ContainerStatsFilter(**filters)).stats
    return {one.attributes.id: one for one in found}


def test_a_container_that_is_busy_uses_cpu(pod, cri: Cri) -> None:
    container = pod.shell(BUSY)
    before = container_stats(cri, container)
    host.until("the counter grows", lambda: _cpu(container_stats(cri, container)) > _cpu(before) + 300_000_000, 30)
    host.until("the rate shows it", lambda: container_stats(cri, container).cpu.usage_nano_cores.value > 50_000_000, 30)
    assert _cpu(pod_stats(cri, pod.id).linux) >= _cpu(before)


def test_memory_follows_what_is_used(pod, cri: Cri) -> None:
    resources = pb.LinuxContainerResources(memory_limit_in_bytes=128 * MIB)
    container = pod.shell("head -c 20000000 /dev/zero | tail -c 20000000 > /tmp/x; sleep 600", resources=resources)
    host.until("the file is written", lambda: cri.output(container, "stat", "-c", "%s", "/tmp/x").strip() == "20000000")
    host.until("a reading is younger", lambda: container_stats(cri, container).memory.usage_bytes.value > 19 * MIB)
    memory = container_stats(cri, container).memory
    assert 0 < memory.working_set_bytes.value <= memory.usage_bytes.value < 128 * MIB
    assert memory.available_bytes.value == 128 * MIB - memory.working_set_bytes.value
    assert memory.page_faults.value > 0
    host.until(
        "the writable layer is measured anew",
        lambda: container_stats(cri, container).writable_layer.used_bytes.value > 0,
    )


def test_the_writable_layer_is_measured(pod, cri: Cri) -> None:
    container = pod.create("sh", "-c", "sleep 600")
    layer = container_stats(cri, container).writable_layer
    assert layer.used_bytes.value > 0
    assert layer.inodes_used.value > 0
    assert layer.fs_id.mountpoint
    assert layer.timestamp > 0


def test_a_created_container_is_listed_with_its_attributes(pod, cri: Cri) -> None:
    container = pod.create("sleep", "600", annotations={"a/b": "c"})
    found = listed(cri)[container]
    assert found.attributes.metadata.name.startswith("c-")
    assert dict(found.attributes.annotations) == {"a/b": "c"}
    assert dict(found.attributes.labels) == {"io.kubernetes.container.name": found.attributes.metadata.name}
    assert found.cpu.timestamp > 0
    assert found.memory.timestamp > 0


def test_an_exited_container_is_not_listed(pod, cri: Cri) -> None:
    container = pod.run("true")
    cri.wait_exit(container)
    assert container not in listed(cri)
    found = container_stats(cri, container)
    assert found.attributes.id == container
    assert not found.HasField("cpu")


def test_filters(pods, cri: Cri) -> None:
    first, second = pods(), pods()
    one, two = first.run("sleep", "600", labels={"x": "1"}), second.run("sleep", "600", labels={"x": "2"})
    assert {one, two} <= listed(cri).keys()
    assert listed(cri, pod_sandbox_id=first.id).keys() == {one}
    assert listed(cri, id=two[:13]).keys() == {two}
    assert listed(cri, label_selector={"x": "2"}).keys() == {two}
    assert not listed(cri, id=one, pod_sandbox_id=second.id)
    found = cri.call("ListPodSandboxStats", filter=pb.PodSandboxStatsFilter(id=second.id)).stats
    assert [pod.attributes.id for pod in found] == [second.id]
    wanted = {"io.kubernetes.pod.name": first.config.metadata.name}
    found = cri.call("ListPodSandboxStats", filter=pb.PodSandboxStatsFilter(label_selector=wanted)).stats
    assert [pod.attributes.id for pod in found] == [first.id]


def test_a_pod_with_its_containers_processes_and_network(pod, cri: Cri) -> None:
    containers = {pod.shell("sleep 600 & sleep 600; true"), pod.run("sleep", "600")}
    first = next(iter(containers))
    host.until("both shells run", lambda: _processes(cri, pod.id) == 4)
    before = pod_stats(cri, pod.id).linux.network.default_interface
    assert before.name == "eth0"
    cri.exec(first, "ping", "-c", "1", "-W", "1", "10.255.255.254")  # nobody answers; what is sent counts
    host.until("what was sent is counted", lambda: _sent(cri, pod.id) > before.tx_bytes.value)
    found = pod_stats(cri, pod.id)
    assert found.attributes.metadata == pod.config.metadata
    assert {inside.attributes.id for inside in found.linux.containers} == containers
    assert found.linux.memory.working_set_bytes.value >= max(
        inside.memory.rss_bytes.value for inside in found.linux.containers
    )


def test_a_pod_on_the_hosts_network_has_no_network_of_its_own(pods, daemon, cri: Cri) -> None:
    pod = pods(pod_config(daemon.logs, network=pb.NODE))
    pod.run("sleep", "600")
    found = pod_stats(cri, pod.id)
    assert found.linux.cpu.timestamp > 0
    assert not found.linux.HasField("network")


def test_a_pod_without_containers_has_numbers(pod, cri: Cri) -> None:
    found = pod_stats(cri, pod.id).linux
    assert found.HasField("process")
    assert found.network.default_interface.name == "eth0"
    assert not found.containers


def test_a_stopped_pod_is_not_listed(pod, cri: Cri) -> None:
    cri.stop_pod(pod.id)
    assert pod.id not in {one.attributes.id for one in cri.call("ListPodSandboxStats").stats}
    assert not pod_stats(cri, pod.id).linux.HasField("cpu")


def test_two_lists_a_second_apart_show_two_readings(pod, cri: Cri) -> None:
    container = pod.run("sleep", "600")
    first = listed(cri)[container].cpu.timestamp
    asked = time.monotonic()
    host.until("another reading is listed", lambda: listed(cri)[container].cpu.timestamp > first)
    assert time.monotonic() - asked < 5


def test_the_streams_are_the_lists(pods, cri: Cri) -> None:
    for _ in range(2):
        pods().run("sleep", "600")
    whole = {one.attributes.id for one in cri.call("ListContainerStats").stats}
    parts = {one.attributes.id for part in cri.call("StreamContainerStats") for one in part.container_stats}
    assert parts == whole
    whole = {one.attributes.id for one in cri.call("ListPodSandboxStats").stats}
    parts = {one.attributes.id for part in cri.call("StreamPodSandboxStats") for one in part.pod_sandbox_stats}
    assert parts == whole


@pytest.mark.parametrize(("name", "field"), [("ContainerStats", "container_id"), ("PodSandboxStats", "pod_sandbox_id")])
def test_what_does_not_exist_is_not_found(cri: Cri, name: str, field: str) -> None:
    with refused(NOT_FOUND, "f" * 64):
        cri.call(name, **{field: "f" * 64})


def _cpu(stats: pb.ContainerStats | pb.LinuxPodSandboxStats) -> int:
    return stats.cpu.usage_core_nano_seconds.value


def _processes(cri: Cri, sandbox: str) -> int:
    return pod_stats(cri, sandbox).linux.process.process_count.value


def _sent(cri: Cri, sandbox: str) -> int:
    return pod_stats(cri, sandbox).linux.network.default_interface.tx_bytes.value
