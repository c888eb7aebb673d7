"""UpdateContainerResources and UpdatePodSandboxResources: the host first, then the record.

    check → runtime.update, of a created or running container → the configuration in the record, which status shows
    check → runtime.update_pod, of a pod that is ready → the configuration in the record

A call that was cut off in between is repeated by its caller, and does the same again.
"""

from __future__ import annotations

from msgspec.structs import replace

from kernel.contracts import runtime
from kernel.contracts.records import SandboxState
from kernel.contracts.runtime import Resources
from kernel.contracts.supervisor import Commit
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import FailedPrecondition, NotFound
from kernel.front.context import Call, Front
from kernel.front.requests import fields
from kernel.front.requests.resources import resources_of
from kernel.front.responses import views
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, SandboxId


async def update_container_resources(
    front: Front, request: cri.UpdateContainerResourcesRequest, call: Call
) -> cri.UpdateContainerResourcesResponse:
    """Serve UpdateContainerResources. Limits that the request leaves unset stay."""
    record = front.replica.container(request.container_id)
    fields.strings("annotations", request.annotations)
    wanted = resources_of("linux", request.linux)
    if not record.state.has_process:
        raise FailedPrecondition(f"container {record.id} is {record.state.value}: it has no resources to update")
    if request.HasField("linux"):
        await _update(front, record.id, wanted, call.deadline)
    return cri.UpdateContainerResourcesResponse()


async def update_pod_sandbox_resources(
    front: Front, request: cri.UpdatePodSandboxResourcesRequest, call: Call
) -> cri.UpdatePodSandboxResourcesResponse:
    """Serve UpdatePodSandboxResources.

    The limits are kept in the record; the runtime leaves a cgroup that the kubelet made to the kubelet.
    """
    record = front.replica.sandbox(request.pod_sandbox_id)
    overhead, resources = resources_of("overhead", request.overhead), resources_of("resources", request.resources)
    if record.state is not SandboxState.READY or front.replica.leaving(record.id):
        raise FailedPrecondition(f"pod sandbox {record.id} is not ready")
    update = runtime.UpdatePodRequest(sandbox_id=record.id, overhead=overhead, resources=resources)
    async with front.locks.hold(record.id):
        await front.runtime.call(runtime.UPDATE_POD, update, deadline=call.deadline)
        await front.replica.change(record.id, lambda: _pod_updated(front, record.id, request), call.deadline)
    return cri.UpdatePodSandboxResourcesResponse()


def to_cri(limits: Resources) -> cri.LinuxContainerResources:
    """Return limits as a message of the CRI. Pure."""
    return cri.LinuxContainerResources(
        cpu_period=limits.cpu_period,
        cpu_quota=limits.cpu_quota,
        cpu_shares=limits.cpu_shares,
        memory_limit_in_bytes=limits.memory_limit_in_bytes,
        oom_score_adj=limits.oom_score_adj,
        cpuset_cpus=limits.cpuset_cpus,
        cpuset_mems=limits.cpuset_mems,
        hugepage_limits=[
            cri.HugepageLimit(page_size=size, limit=limit) for size, limit in limits.hugepage_limits.items()
        ],
        unified=limits.unified,
        memory_swap_limit_in_bytes=limits.memory_swap_limit_in_bytes,
    )


async def _update(front: Front, container_id: ContainerId, wanted: Resources, deadline: Deadline) -> None:
    async with front.locks.hold(container_id):
        request = runtime.UpdateRequest(container_id=container_id, resources=wanted)
        done = await front.runtime.call(runtime.UPDATE, request, deadline=deadline)
        await front.replica.change(container_id, lambda: _updated(front, container_id, done.resources), deadline)


def _updated(front: Front, container_id: ContainerId, limits: Resources) -> Commit:
    record = front.replica.containers.get(container_id)
    if record is None:
        raise NotFound(f"container {container_id} does not exist")
    config = views.container_config(record)
    config.linux.resources.CopyFrom(to_cri(limits))
    return Commit(put_containers=(replace(record, config=config.SerializeToString()),))


def _pod_updated(front: Front, sandbox_id: SandboxId, request: cri.UpdatePodSandboxResourcesRequest) -> Commit:
    record = front.replica.sandboxes.get(sandbox_id)
    if record is None:
        raise NotFound(f"pod sandbox {sandbox_id} does not exist")
    config = views.pod_config(record)
    config.linux.overhead.CopyFrom(request.overhead)
    config.linux.resources.CopyFrom(request.resources)
    return Commit(put_sandboxes=(replace(record, config=config.SerializeToString()),))
