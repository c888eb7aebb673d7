"""The function that serves each RPC: the front's table of contents."""

from __future__ import annotations

from google.protobuf.descriptor import ServiceDescriptor

from kernel.cri.generated import cri_pb2, node_pb2
from kernel.front.containers import checkpoint, create, remove, reopen_log, start, stop, updates
from kernel.front.context import Rpcs
from kernel.front.images import fs_info, image_queries, pulls, removal
from kernel.front.node import events, node_service, pod_cidr, queries, runtime_status
from kernel.front.pods import remove as pod_remove
from kernel.front.pods import run as pod_run
from kernel.front.pods import stop as pod_stop
from kernel.front.sessions import exec_sync, urls
from kernel.front.stats import metrics, stats_rpcs

RUNTIME: Rpcs = {
    "Version": runtime_status.version,
    "Status": runtime_status.status,
    "RuntimeConfig": runtime_status.runtime_config,
    "UpdateRuntimeConfig": pod_cidr.update_runtime_config,
    "RunPodSandbox": pod_run.run_pod_sandbox,
    "StopPodSandbox": pod_stop.stop_pod_sandbox,
    "RemovePodSandbox": pod_remove.remove_pod_sandbox,
    "PodSandboxStatus": queries.pod_sandbox_status,
    "ListPodSandbox": queries.list_pod_sandbox,
    "StreamPodSandboxes": queries.stream_pod_sandboxes,
    "CreateContainer": create.create_container,
    "StartContainer": start.start_container,
    "StopContainer": stop.stop_container,
    "RemoveContainer": remove.remove_container,
    "UpdateContainerResources": updates.update_container_resources,
    "UpdatePodSandboxResources": updates.update_pod_sandbox_resources,
    "CheckpointContainer": checkpoint.checkpoint_container,
    "GetContainerEvents": events.get_container_events,
    "ReopenContainerLog": reopen_log.reopen_container_log,
    "ContainerStatus": queries.container_status,
    "ListContainers": queries.list_containers,
    "StreamContainers": queries.stream_containers,
    "ExecSync": exec_sync.exec_sync,
    "Exec": urls.exec_stream,
    "Attach": urls.attach,
    "PortForward": urls.port_forward,
    "ContainerStats": stats_rpcs.container_stats,
    "ListContainerStats": stats_rpcs.list_container_stats,
    "StreamContainerStats": stats_rpcs.stream_container_stats,
    "PodSandboxStats": stats_rpcs.pod_sandbox_stats,
    "ListPodSandboxStats": stats_rpcs.list_pod_sandbox_stats,
    "StreamPodSandboxStats": stats_rpcs.stream_pod_sandbox_stats,
    "ListMetricDescriptors": metrics.list_metric_descriptors,
    "ListPodSandboxMetrics": metrics.list_pod_sandbox_metrics,
    "StreamPodSandboxMetrics": metrics.stream_pod_sandbox_metrics,
}
IMAGE: Rpcs = {
    "PullImage": pulls.pull_image,
    "ImageStatus": image_queries.image_status,
    "ListImages": image_queries.list_images,
    "StreamImages": image_queries.stream_images,
    "RemoveImage": removal.remove_image,
    "ImageFsInfo": fs_info.image_fs_info,
}
NODE: Rpcs = node_service.RPCS

SERVICES: tuple[tuple[ServiceDescriptor, Rpcs], ...] = (
    (cri_pb2.DESCRIPTOR.services_by_name["RuntimeService"], RUNTIME),
    (cri_pb2.DESCRIPTOR.services_by_name["ImageService"], IMAGE),
    (node_pb2.DESCRIPTOR.services_by_name["Node"], NODE),
)
"""Every service on the socket, with its descriptor."""
