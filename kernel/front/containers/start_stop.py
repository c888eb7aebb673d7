"""StartContainer, StopContainer, RemoveContainer, ReopenContainerLog: spines of steps.

start    runtime.start → RUNNING
stop     runtime.stop → EXITED, as the runtime's watch says
remove   intent → runtime.remove → storage.unmount → gone
"""

from __future__ import annotations

from contextlib import suppress

from msgspec.structs import replace

from kernel.contracts import runtime, storage
from kernel.contracts.records import Container, ContainerState, IntentKind
from kernel.contracts.supervisor import Commit
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import CrispError, DeadlineExceeded, FailedPrecondition, NotFound
from kernel.front import facts, flows
from kernel.front.context import Call, Front
from kernel.front.requests import fields
from kernel.host.aio import Deadline
from kernel.ids import ContainerId
from kernel.state import lifecycle

_SETTLE_SECONDS = 5.0
"""How long an exit that the runtime has confirmed may take to reach the record by the watch."""
_LONGEST_GRACE = 10 * 365 * 86400


async def start_container(front: Front, request: cri.StartContainerRequest, call: Call) -> cri.StartContainerResponse:
    """StartContainer. A repeat joins the start under way; a container that runs already is refused."""
    record = front.replica.container(request.container_id)
    deadline = call.flow_deadline(60)
    await flows.joined(front.ends, ("start", record.id), lambda: _start(front, record.id, deadline))
    return cri.StartContainerResponse()


async def stop_container(front: Front, request: cri.StopContainerRequest, call: Call) -> cri.StopContainerResponse:
    """StopContainer. One that has ended or is gone is success; a shorter timeout shortens a stop under way."""
    grace = fields.integer("timeout", request.timeout, 0, (1 << 63) - 1)
    with suppress(NotFound):
        record = front.replica.container(request.container_id)
        if record.state is not ContainerState.EXITED:
            grace = min(grace, _LONGEST_GRACE)
            deadline = call.flow_deadline(grace + flows.UNDO_SECONDS)
            await flows.joined(
                front.ends, ("stop", record.id, str(grace)), lambda: _stop(front, record.id, grace, deadline)
            )
    return cri.StopContainerResponse()


async def remove_container(
    front: Front, request: cri.RemoveContainerRequest, call: Call
) -> cri.RemoveContainerResponse:
    """RemoveContainer. One that runs is killed; one that is gone is success."""
    with suppress(NotFound):
        record = front.replica.container(request.container_id)
        deadline = call.flow_deadline()
        await flows.joined(front.ends, ("remove", record.id), lambda: remove(front, record.id, deadline))
    return cri.RemoveContainerResponse()


async def reopen_container_log(
    front: Front, request: cri.ReopenContainerLogRequest, call: Call
) -> cri.ReopenContainerLogResponse:
    """ReopenContainerLog, of a running container."""
    record = running(front.replica.container(request.container_id))
    await front.runtime.call(runtime.REOPEN_LOG, runtime.ContainerRequest(container=record.id), deadline=call.deadline)
    return cri.ReopenContainerLogResponse()


def running(record: Container) -> Container:
    """The container, where it runs."""
    if record.state is not ContainerState.RUNNING:
        raise FailedPrecondition(f"container {record.id} is {record.state.value}, not running")
    return record


async def remove(front: Front, container: ContainerId, deadline: Deadline) -> None:
    """Take a container away; what fails is tried again."""
    try:
        async with front.locks.hold(container):
            if container not in front.replica.containers:
                return
            await front.replica.commit(Commit(begin=(flows.begin(IntentKind.REMOVE_CONTAINER, container),)), deadline)
            await release(front, container, deadline)
            await front.replica.commit(Commit(delete_containers=(container,), end=(container,)), deadline)
    except CrispError:
        flows.keep_trying(front, "removal", container, lambda: remove_again(front, container))
        raise


async def remove_again(front: Front, container: ContainerId) -> None:
    """The removal, in the background."""
    deadline = Deadline.after(flows.UNDO_SECONDS)
    await flows.joined(front.ends, ("remove", container), lambda: remove(front, container, deadline))


async def release(front: Front, container: ContainerId, deadline: Deadline) -> None:
    """Take away what a container holds on the host: process and bundle first, then its root file system."""
    await front.runtime.call(runtime.REMOVE, runtime.ContainerRequest(container=container), deadline=deadline)
    await front.storage.call(storage.UNMOUNT, storage.ContainerRequest(container=container), deadline=deadline)


async def kill(front: Front, container: ContainerId, deadline: Deadline) -> None:
    """End a container at once, as the end of its pod does."""
    await _stop(front, container, 0, deadline)


async def _start(front: Front, container: ContainerId, deadline: Deadline) -> None:
    async with front.locks.hold(container):
        record = front.replica.containers.get(container)
        if record is None:
            raise NotFound(f"container {container} does not exist")
        if record.state is not ContainerState.CREATED:
            raise FailedPrecondition(
                f"container {container} is {record.state.value}; only a created one can be started"
            )
        started = await front.runtime.call(
            runtime.START, runtime.ContainerRequest(container=container), deadline=deadline
        )
        await front.replica.change(container, lambda: _started(front, container, started), deadline)


def _started(front: Front, container: ContainerId, started: runtime.Started) -> Commit | None:
    record = front.replica.containers.get(container)
    if record is None:
        return None
    if record.state is ContainerState.EXITED:  # its end was heard of before the reply to its start
        return Commit(put_containers=(replace(record, started_at=record.started_at or started.started_at),))
    return Commit(put_containers=(lifecycle.container_started(record, started_at=started.started_at, pid=started.pid),))


async def _stop(front: Front, container: ContainerId, grace: int, deadline: Deadline) -> None:
    until = Deadline.after(grace)
    while True:
        left = max(int(until.remaining() + 0.999), 0)
        try:
            await front.runtime.call(
                runtime.STOP, runtime.StopRequest(container=container, timeout=left), deadline=deadline
            )
            break
        except NotFound:
            break  # the runtime has nothing of it left
        except DeadlineExceeded:
            if deadline.remaining() <= 0 or left == 0:
                raise  # else the method's own deadline was shorter than the grace
    try:
        settled = deadline.earlier(_SETTLE_SECONDS)
        await front.replica.wait_container(container, lambda record: record.state is ContainerState.EXITED, settled)
    except DeadlineExceeded:
        await facts.refresh(front, Deadline.after(_SETTLE_SECONDS))
