"""Metrics: every descriptor has samples with its labels, and the values are the container's."""

from __future__ import annotations

from kernel.cri.generated import cri_pb2 as pb
from tests.harness.cri import Cri

OF_THE_HOST = {
    "container_blkio_device_usage_total", "container_fs_reads_bytes_total", "container_fs_reads_total",
    "container_fs_writes_bytes_total", "container_fs_writes_total", "container_hugetlb_max_usage_bytes",
    "container_hugetlb_usage_bytes", "container_pressure_cpu_stalled_seconds_total",
    "container_pressure_cpu_waiting_seconds_total", "container_pressure_io_stalled_seconds_total",
    "container_pressure_io_waiting_seconds_total", "container_pressure_memory_stalled_seconds_total",
    "container_pressure_memory_waiting_seconds_total", "container_ulimits_soft",
}  # fmt: skip
"""Only where the kernel and the disks have something to say."""


def pod_metrics(cri: Cri, sandbox: str) -> pb.PodSandboxMetrics:
    (found,) = [one for one in cri.call("ListPodSandboxMetrics").pod_metrics if one.pod_sandbox_id == sandbox]
    return found


def test_every_descriptor_has_samples(pod, cri: Cri) -> None:
    resources = pb.LinuxContainerResources(
        cpu_period=100000, cpu_quota=20000, cpu_shares=512, memory_limit_in_bytes=64 << 20
    )
    container = pod.run("sleep", "600", resources=resources)
    descriptors = {one.name: one for one in cri.call("ListMetricDescriptors").descriptors}
    found = pod_metrics(cri, pod.id)
    (inside,) = found.container_metrics
    assert inside.container_id == container
    samples = {one.name: one for one in (*found.metrics, *inside.metrics)}
    assert descriptors.keys() - samples.keys() <= OF_THE_HOST
    for name, sample in samples.items():
        assert len(sample.label_values) == len(descriptors[name].label_keys)
    labels = dict(
        zip(descriptors["container_processes"].label_keys, samples["container_processes"].label_values, strict=True)
    )
    assert labels["pod"] == pod.config.metadata.name
    assert labels["namespace"] == "default"
    assert labels["container"] == cri.container(container).metadata.name
    assert labels["image"] == pod.image
    values = {name: sample.value.value for name, sample in samples.items()}
    assert values["container_processes"] == values["container_threads"] == 1
    assert values["container_spec_cpu_period"] == 100000
    assert values["container_spec_cpu_quota"] == 20000
    assert abs(values["container_spec_cpu_shares"] - 512) < 30, "v2 has weights, which are coarser"
    assert values["container_spec_memory_limit_bytes"] == 64 << 20
    assert values["container_file_descriptors"] >= 2
    assert values["container_fs_limit_bytes"] > values["container_fs_usage_bytes"]
    assert abs(values["container_start_time_seconds"] - cri.container(container).started_at // 10**9) <= 1


def test_the_stream_is_the_list(pod, cri: Cri) -> None:
    pod.run("sleep", "600")
    whole = {one.pod_sandbox_id for one in cri.call("ListPodSandboxMetrics").pod_metrics}
    parts = {one.pod_sandbox_id for part in cri.call("StreamPodSandboxMetrics") for one in part.pod_sandbox_metrics}
    assert parts == whole
    assert pod.id in parts
