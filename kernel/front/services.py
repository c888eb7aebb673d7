"""Which spine serves which RPC: the front's table of contents."""

from __future__ import annotations

from google.protobuf.descriptor import ServiceDescriptor

from kernel.front import (
    checkpoint,
    container_create,
    containers,
    events,
    images,
    metrics,
    node,
    pod_cidr,
    queries,
    sandboxes,
    sessions,
    stats,
    updates,
)
from kernel.front.context import Rpcs
from kernel.front.generated import cri_pb2, node_pb2

RUNTIME: Rpcs = {
    "Version": queries.version,
    "Status": queries.status,
    "RuntimeConfig": queries.runtime_config,
    "UpdateRuntimeConfig": pod_cidr.update_runtime_config,
    "RunPodSandbox": sandboxes.run_pod_sandbox,
    "StopPodSandbox": sandboxes.stop_pod_sandbox,
    "RemovePodSandbox": sandboxes.remove_pod_sandbox,
    "PodSandboxStatus": queries.pod_sandbox_status,
    "ListPodSandbox": queries.list_pod_sandbox,
    "StreamPodSandboxes": queries.stream_pod_sandboxes,
    "CreateContainer": container_create.create_container,
    "StartContainer": containers.start_container,
    "StopContainer": containers.stop_container,
    "RemoveContainer": containers.remove_container,
    "UpdateContainerResources": updates.update_container_resources,
    "UpdatePodSandboxResources": updates.update_pod_sandbox_resources,
    "CheckpointContainer": checkpoint.checkpoint_container,
    "GetContainerEvents": events.get_container_events,
    "ReopenContainerLog": containers.reopen_container_log,
    "ContainerStatus": queries.container_status,
    "ListContainers": queries.list_containers,
    "StreamContainers": queries.stream_containers,
    "ExecSync": sessions.exec_sync,
    "Exec": sessions.exec_stream,
    "Attach": sessions.attach,
    "PortForward": sessions.port_forward,
    "ContainerStats": stats.container_stats,
    "ListContainerStats": stats.list_container_stats,
    "StreamContainerStats": stats.stream_container_stats,
    "PodSandboxStats": stats.pod_sandbox_stats,
    "ListPodSandboxStats": stats.list_pod_sandbox_stats,
    "StreamPodSandboxStats": stats.stream_pod_sandbox_stats,
    "ListMetricDescriptors": metrics.list_metric_descriptors,
    "ListPodSandboxMetrics": metrics.list_pod_sandbox_metrics,
    "StreamPodSandboxMetrics": metrics.stream_pod_sandbox_metrics,
}
IMAGE: Rpcs = images.RPCS
NODE: Rpcs = node.RPCS

SERVICES: tuple[tuple[ServiceDescriptor, Rpcs], ...] = (
    (cri_pb2.DESCRIPTOR.services_by_name["RuntimeService"], RUNTIME),
    (cri_pb2.DESCRIPTOR.services_by_name["ImageService"], IMAGE),
    (node_pb2.DESCRIPTOR.services_by_name["Node"], NODE),
)
"""Every service on the socket, with its descriptor."""
