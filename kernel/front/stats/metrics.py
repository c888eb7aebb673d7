"""Metrics of pods and containers: those that cAdvisor reads itself if the kubelet does not request them from the
runtime.

The lists have the pods that are ready, with their containers that have a process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from kernel.contracts.records import Container, Sandbox
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.context import Call, Front
from kernel.front.documents import metric_families
from kernel.front.documents.metric_families import CONTAINER, POD, Subject
from kernel.front.memory import stats_items
from kernel.front.responses import protobuf_fields
from kernel.front.stats import stats_reading


async def list_metric_descriptors(
    front: Front, request: cri.ListMetricDescriptorsRequest, call: Call
) -> cri.ListMetricDescriptorsResponse:
    """Serve ListMetricDescriptors."""
    families = (*(family.descriptor() for family in CONTAINER), *(family.descriptor() for family in POD))
    return cri.ListMetricDescriptorsResponse(descriptors=families)


async def list_pod_sandbox_metrics(front: Front, request: cri.ListPodSandboxMetricsRequest, call: Call) -> bytes:
    """Serve ListPodSandboxMetrics."""
    await stats_reading.before_metrics(front)
    return b"".join(_items(front))


async def stream_pod_sandbox_metrics(
    front: Front, request: cri.StreamPodSandboxMetricsRequest, call: Call
) -> AsyncIterator[bytes]:
    """Serve StreamPodSandboxMetrics: ListPodSandboxMetrics in parts."""
    await stats_reading.before_metrics(front)
    for part in protobuf_fields.parts(_items(front)):
        yield part


def _items(front: Front) -> Iterator[bytes]:
    """Yield the fields of the list message. A list message with one entry is, serialised, the field of that entry."""
    for record in list(filter(stats_items.ready, front.replica.listed_sandboxes())):
        entry = _pod(front, record)
        yield cri.ListPodSandboxMetricsResponse(pod_metrics=[entry]).SerializeToString()


def _pod(front: Front, record: Sandbox) -> cri.PodSandboxMetrics:
    found = cri.PodSandboxMetrics(pod_sandbox_id=record.id)
    reading = front.stats.pods.get(record.id)
    if reading is not None:
        labels = ("", record.id, "", "", record.namespace, record.name)
        found.metrics.extend(metric_families.metrics(POD, reading, reading.usage.at, labels))
    for member in filter(stats_items.active, front.replica.containers_of(record.id)):
        found.container_metrics.append(_container(front, record, member))
    return found


def _container(front: Front, pod: Sandbox, record: Container) -> cri.ContainerMetrics:
    memory, found = front.stats, cri.ContainerMetrics(container_id=record.id)
    reading = memory.detailed.get(record.id)
    if reading is not None:
        layer = memory.layers.get(record.id)
        subject = Subject(
            reading=reading,
            started_at=record.started_at,
            layer=layer.usage if layer else None,
            file_system=memory.file_system,
        )
        labels = (record.name, record.id, record.image_name, record.id, pod.namespace, pod.name)
        found.metrics.extend(metric_families.metrics(CONTAINER, subject, reading.usage.at, labels))
    return found
