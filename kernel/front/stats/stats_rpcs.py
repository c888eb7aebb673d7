"""Statistics of containers and pods. A list comes from memory; one container or pod gets a new reading, if it comes
soon.

The lists have the containers that have a process and the pods that are ready; each is listed as soon as its record
exists, without numbers if need be. `stats_reading` keeps the numbers fresh.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from kernel.contracts.records import Container, Sandbox
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.context import Call, Front
from kernel.front.memory import stats_items
from kernel.front.memory.list_items import LIST_FIELD
from kernel.front.responses import list_filters, protobuf_fields
from kernel.front.stats import stats_reading

_STATS = cri.ContainerStatsResponse.STATS_FIELD_NUMBER
"""The same number in PodSandboxStatsResponse."""


async def container_stats(front: Front, request: cri.ContainerStatsRequest, call: Call) -> bytes:
    """Serve ContainerStats; an exited container has only attributes and writable_layer."""
    record = front.replica.container(request.container_id)
    if stats_items.active(record):
        await stats_reading.before_one(front, record.sandbox_id, record.id)
        record = front.replica.container(record.id)
    return protobuf_fields.field(_STATS, _container(front, record))


async def list_container_stats(front: Front, request: cri.ListContainerStatsRequest, call: Call) -> bytes:
    """Serve ListContainerStats."""
    return b"".join(await _containers(front, request.filter))


async def stream_container_stats(
    front: Front, request: cri.StreamContainerStatsRequest, call: Call
) -> AsyncIterator[bytes]:
    """Serve StreamContainerStats: ListContainerStats in parts."""
    for part in protobuf_fields.parts(await _containers(front, request.filter)):
        yield part


async def pod_sandbox_stats(front: Front, request: cri.PodSandboxStatsRequest, call: Call) -> bytes:
    """Serve PodSandboxStats; a pod that is not ready has only attributes."""
    record = front.replica.sandbox(request.pod_sandbox_id)
    if stats_items.ready(record):
        await stats_reading.before_one(front, record.id)
        record = front.replica.sandbox(record.id)
    return protobuf_fields.field(_STATS, _pod(front, record))


async def list_pod_sandbox_stats(front: Front, request: cri.ListPodSandboxStatsRequest, call: Call) -> bytes:
    """Serve ListPodSandboxStats."""
    return b"".join(await _pods(front, request.filter))


async def stream_pod_sandbox_stats(
    front: Front, request: cri.StreamPodSandboxStatsRequest, call: Call
) -> AsyncIterator[bytes]:
    """Serve StreamPodSandboxStats: ListPodSandboxStats in parts."""
    for part in protobuf_fields.parts(await _pods(front, request.filter)):
        yield part


async def _containers(front: Front, given: cri.ContainerStatsFilter) -> Iterator[bytes]:
    wanted = cri.ContainerFilter(id=given.id, pod_sandbox_id=given.pod_sandbox_id, label_selector=given.label_selector)

    def chosen() -> list[Container]:
        records = front.replica.listed_containers()
        passing = list_filters.containers_that_pass(records, wanted) if wanted.ByteSize() else records
        return list(filter(stats_items.active, passing))

    await stats_reading.before_list(front, {record.sandbox_id for record in chosen()})
    return (protobuf_fields.field(LIST_FIELD, _container(front, record)) for record in chosen())


async def _pods(front: Front, given: cri.PodSandboxStatsFilter) -> Iterator[bytes]:
    wanted = cri.PodSandboxFilter(id=given.id, label_selector=given.label_selector)

    def chosen() -> list[Sandbox]:
        records = front.replica.listed_sandboxes()
        passing = list_filters.pods_that_pass(records, wanted) if wanted.ByteSize() else records
        return list(filter(stats_items.ready, passing))

    await stats_reading.before_list(front, [record.id for record in chosen()])
    return (protobuf_fields.field(LIST_FIELD, _pod(front, record)) for record in chosen())


def _container(front: Front, record: Container) -> bytes:
    return front.stats_items.container(record, front.stats)


def _pod(front: Front, record: Sandbox) -> bytes:
    return front.stats_items.pod(record, front.replica.containers_of(record.id), front.stats)
