"""UpdateContainerResources and UpdatePodSandboxResources: the host first, then the record.

check → runtime.update, of a created or running container → the configuration in the record, which status shows
check → runtime.update_pod, of a pod that is ready → as above

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
from kernel.front.requests.pod_config import resources_of
from kernel.front.responses import views
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, SandboxId


async def update_container_resources(
    front: Front, request: cri.UpdateContainerResourcesRequest, call: Call
) -> cri.UpdateContainerResourcesResponse:
    """UpdateContainerResources. What the request leaves unset stays."""
    record = front.replica.container(request.container_id)
    fields.strings("annotations", request.annotations)
    asked = resources_of("linux", request.linux)
    if not record.state.has_process:
        raise FailedPrecondition(f"container {record.id} is {record.state.value}: it has no resources to update")
    if request.HasField("linux"):
        await _container(front, record.id, asked, call.deadline)
    return cri.UpdateContainerResourcesResponse()


async def update_pod_sandbox_resources(
    front: Front, request: cri.UpdatePodSandboxResourcesRequest, call: Call
) -> cri.UpdatePodSandboxResourcesResponse:
    """UpdatePodSandboxResources: kept in the record; a cgroup that the kubelet made is the kubelet's to limit."""
    record = front.replica.sandbox(request.pod_sandbox_id)
    overhead, resources = resources_of("overhead", request.overhead), resources_of("resources", request.resources)
    if record.state is not SandboxState.READY or front.replica.leaving(record.id):
        raise FailedPrecondition(f"pod sandbox {record.id} is not ready")
    asked = runtime.UpdatePodRequest(sandbox=record.id, overhead=overhead, resources=resources)
    async with front.locks.hold(record.id):
        await front.runtime.call(runtime.UPDATE_POD, asked, deadline=call.deadline)
        await front.replica.change(record.id, lambda: _pod_updated(front, record.id, request), call.deadline)
    return cri.UpdatePodSandboxResourcesResponse()


def shown(held: Resources) -> cri.LinuxContainerResources:
    """Limits as the CRI says them. Pure."""
    return cri.LinuxContainerResources(
        cpu_period=held.cpu_period,
        cpu_quota=held.cpu_quota,
        cpu_shares=held.cpu_shares,
        memory_limit_in_bytes=held.memory_limit_in_bytes,
        oom_score_adj=held.oom_score_adj,
        cpuset_cpus=held.cpuset_cpus,
        cpuset_mems=held.cpuset_mems,
        hugepage_limits=[
            cri.HugepageLimit(page_size=size, limit=limit) for size, limit in held.hugepage_limits.items()
        ],
        unified=held.unified,
        memory_swap_limit_in_bytes=held.memory_swap_limit_in_bytes,
    )


async def _container(front: Front, container: ContainerId, asked: Resources, deadline: Deadline) -> None:
    async with front.locks.hold(container):
        done = await front.runtime.call(
            runtime.UPDATE, runtime.UpdateRequest(container=container, resources=asked), deadline=deadline
        )
        await front.replica.change(container, lambda: _updated(front, container, done.resources), deadline)


def _updated(front: Front, container: ContainerId, held: Resources) -> Commit:
    record = front.replica.containers.get(container)
    if record is None:
        raise NotFound(f"container {container} does not exist")
    config = views.container_config(record)
    config.linux.resources.CopyFrom(shown(held))
    return Commit(put_containers=(replace(record, config=config.SerializeToString()),))


def _pod_updated(front: Front, sandbox: SandboxId, request: cri.UpdatePodSandboxResourcesRequest) -> Commit:
    record = front.replica.sandboxes.get(sandbox)
    if record is None:
        raise NotFound(f"pod sandbox {sandbox} does not exist")
    config = views.pod_config(record)
    config.linux.overhead.CopyFrom(request.overhead)
    config.linux.resources.CopyFrom(request.resources)
    return Commit(put_sandboxes=(replace(record, config=config.SerializeToString()),))
