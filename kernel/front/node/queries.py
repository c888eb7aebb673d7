"""Lists and statuses of pods and containers: answered from memory, whatever a worker does.

Only a verbose ContainerStatus asks the runtime worker, for the OCI specification of the container.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterable, Iterator

from kernel.contracts import runtime
from kernel.contracts.records import Container, ContainerState, Sandbox
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import CrispError
from kernel.front.context import Call, Front
from kernel.front.responses import list_filters, protobuf_fields, provenance, views


async def list_pod_sandbox(front: Front, request: cri.ListPodSandboxRequest, call: Call) -> bytes:
    """Serve ListPodSandbox."""
    return b"".join(_pods(front, request.filter))


async def stream_pod_sandboxes(
    front: Front, request: cri.StreamPodSandboxesRequest, call: Call
) -> AsyncIterator[bytes]:
    """Serve StreamPodSandboxes: ListPodSandbox in parts."""
    for part in protobuf_fields.parts(_pods(front, request.filter)):
        yield part


async def pod_sandbox_status(
    front: Front, request: cri.PodSandboxStatusRequest, call: Call
) -> cri.PodSandboxStatusResponse:
    """Serve PodSandboxStatus. If `verbose`, `info` has cgroup, handler, network namespace and containers as JSON."""
    record = front.replica.sandbox(request.pod_sandbox_id)
    members = [one for one in front.replica.containers_of(record.id) if one.state is not ContainerState.CREATING]
    reply = cri.PodSandboxStatusResponse(
        status=views.pod_status(record),
        containers_statuses=[views.container_status(one) for one in members],
        timestamp=time.time_ns(),
    )
    if request.verbose:
        reply.info["info"] = json.dumps(
            {
                "cgroup": record.cgroup,
                "runtimeHandler": record.handler or front.config.runtime.default_handler,
                "networkNamespace": "" if record.host_network else str(front.config.paths.netns(record.id)),
                "containers": [one.id for one in front.replica.containers_of(record.id)],
            }
        )
    return reply


async def list_containers(front: Front, request: cri.ListContainersRequest, call: Call) -> bytes:
    """Serve ListContainers."""
    return b"".join(_containers(front, request.filter))


async def stream_containers(front: Front, request: cri.StreamContainersRequest, call: Call) -> AsyncIterator[bytes]:
    """Serve StreamContainers: ListContainers in parts."""
    for part in protobuf_fields.parts(_containers(front, request.filter)):
        yield part


async def container_status(
    front: Front, request: cri.ContainerStatusRequest, call: Call
) -> cri.ContainerStatusResponse:
    """Serve ContainerStatus. If `verbose`, `info` has the keys that other runtimes use, as JSON."""
    record = front.replica.container(request.container_id)
    reply = cri.ContainerStatusResponse(status=views.container_status(record))
    if request.verbose:
        reply.info["info"] = json.dumps(await _inspected(front, record, call))
    return reply


async def _inspected(front: Front, record: Container, call: Call) -> dict[str, object]:
    """Return sandboxID, pid, runtimeSpec and provenance; `error` if the runtime worker did not answer."""
    info: dict[str, object] = {"sandboxID": record.sandbox_id, "pid": record.pid}
    try:
        request = runtime.ContainerRequest(container_id=record.id)
        found = await front.runtime.call(runtime.INSPECT, request, deadline=call.deadline)
        info["pid"] = found.pid
        info["runtimeSpec"] = json.loads(found.runtime_spec)
        image, pod = front.replica.images.get(record.image_id), front.replica.sandboxes.get(record.sandbox_id)
        if image is not None and pod is not None:
            info["provenance"] = provenance.of(
                json.loads(found.runtime_spec), views.container_config(record), views.pod_config(pod), image.config,
                front.config.runtime, pod.handler,
            )  # fmt: skip
    except CrispError as error:  # the status itself comes from memory and is returned in any case
        info["error"] = str(error)
    return info


def _pods(front: Front, given: cri.PodSandboxFilter) -> Iterator[bytes]:
    records: Iterable[Sandbox] = front.replica.listed_sandboxes()
    return map(front.pod_items.of, list_filters.pods_that_pass(records, given))


def _containers(front: Front, given: cri.ContainerFilter) -> Iterator[bytes]:
    records: Iterable[Container] = front.replica.listed_containers()
    return map(front.container_items.of, list_filters.containers_that_pass(records, given))
