"""Statistics of containers and pods: lists from memory, one container or pod as it is now if that can be had soon.

Listed are the containers that have not exited and the pods that are ready; each is there as soon as its record is,
if need be without numbers. `stats_reading` keeps the numbers fresh.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from kernel.contracts.records import Container, Sandbox
from kernel.front import queries, stats_reading, stats_views, views
from kernel.front.context import Call, Front
from kernel.front.generated import cri_pb2 as cri


async def container_stats(front: Front, request: cri.ContainerStatsRequest, call: Call) -> cri.ContainerStatsResponse:
    """ContainerStats; of an exited container only its writable layer."""
    record = front.replica.container(request.container_id)
    if stats_reading.active(record):
        await stats_reading.before_one(front, record.sandbox, record.id)
        record = front.replica.container(record.id)
    return cri.ContainerStatsResponse(stats=_container(front, record))


async def list_container_stats(front: Front, request: cri.ListContainerStatsRequest, call: Call) -> bytes:
    """ListContainerStats."""
    return b"".join(await _containers(front, request.filter))


async def stream_container_stats(
    front: Front, request: cri.StreamContainerStatsRequest, call: Call
) -> AsyncIterator[bytes]:
    """ListContainerStats in parts."""
    for part in queries.parts(await _containers(front, request.filter)):
        yield part


async def pod_sandbox_stats(
    front: Front, request: cri.PodSandboxStatsRequest, call: Call
) -> cri.PodSandboxStatsResponse:
    """PodSandboxStats; of a pod that is not ready only its attributes."""
    record = front.replica.sandbox(request.pod_sandbox_id)
    if stats_reading.ready(record):
        await stats_reading.before_one(front, record.id)
        record = front.replica.sandbox(record.id)
    return cri.PodSandboxStatsResponse(stats=_pod(front, record))


async def list_pod_sandbox_stats(front: Front, request: cri.ListPodSandboxStatsRequest, call: Call) -> bytes:
    """ListPodSandboxStats."""
    return b"".join(await _pods(front, request.filter))


async def stream_pod_sandbox_stats(
    front: Front, request: cri.StreamPodSandboxStatsRequest, call: Call
) -> AsyncIterator[bytes]:
    """ListPodSandboxStats in parts."""
    for part in queries.parts(await _pods(front, request.filter)):
        yield part


async def _containers(front: Front, given: cri.ContainerStatsFilter) -> Iterator[bytes]:
    def chosen() -> Iterator[Container]:
        wanted = cri.ContainerFilter(
            id=given.id, pod_sandbox_id=given.pod_sandbox_id, label_selector=given.label_selector
        )
        return filter(stats_reading.active, views.containers_that_pass(front.replica.listed_containers(), wanted))

    await stats_reading.before_list(front, {record.sandbox for record in chosen()})
    return (_container_item(front, record) for record in chosen())


async def _pods(front: Front, given: cri.PodSandboxStatsFilter) -> Iterator[bytes]:
    def chosen() -> Iterator[Sandbox]:
        wanted = cri.PodSandboxFilter(id=given.id, label_selector=given.label_selector)
        return filter(stats_reading.ready, views.pods_that_pass(front.replica.listed_sandboxes(), wanted))

    await stats_reading.before_list(front, [record.id for record in chosen()])
    return (_pod_item(front, record) for record in chosen())


def _container(front: Front, record: Container) -> cri.ContainerStats:
    memory = front.stats
    return stats_views.container_stats(
        record,
        memory.containers.get(record.id) if stats_reading.active(record) else None,
        memory.rates.get(record.id),
        memory.layers.get(record.id),
        str(front.config.paths.containers),
    )


def _pod(front: Front, record: Sandbox) -> cri.PodSandboxStats:
    memory, ready = front.stats, stats_reading.ready(record)
    members = filter(stats_reading.active, front.replica.containers_of(record.id)) if ready else ()
    return stats_views.pod_stats(
        record,
        memory.pods.get(record.id) if ready else None,
        memory.rates.get(record.id),
        [_container(front, member) for member in members],
    )


def _container_item(front: Front, record: Container) -> bytes:
    """A field of the list message: a message with one entry is that entry's field."""
    return cri.ListContainerStatsResponse(stats=[_container(front, record)]).SerializeToString()


def _pod_item(front: Front, record: Sandbox) -> bytes:
    return cri.ListPodSandboxStatsResponse(stats=[_pod(front, record)]).SerializeToString()
