"""ContainerEventResponse (GetContainerEvents): the events that a change of a record makes, and their message. Pure.

A sandbox has the events of a container, under its own id: CREATED and STARTED once it is ready, STOPPED once it and all
of its containers have ended, DELETED. Each event contains the status of the sandbox and its containers at that moment.
A deleted container is not among them; a deleted sandbox has its last status, because the kubelet drops an event without
one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from kernel.contracts.records import Container, ContainerState, Sandbox, SandboxState
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.responses import views

Kind: TypeAlias = "cri.ContainerEventType.ValueType"
CREATED, STARTED, STOPPED, DELETED = (
    cri.CONTAINER_CREATED_EVENT,
    cri.CONTAINER_STARTED_EVENT,
    cri.CONTAINER_STOPPED_EVENT,
    cri.CONTAINER_DELETED_EVENT,
)


def of_container(before: Container | None, after: Container | None) -> Iterator[Kind]:
    """Yield the events of a change of a container's record; none while the container is being made."""
    was = ContainerState.CREATING if before is None else before.state
    if after is None:
        if was is not ContainerState.CREATING:
            yield from () if was is ContainerState.EXITED else (STOPPED,)
            yield DELETED
        return
    now = after.state
    if was is ContainerState.CREATING and now is not ContainerState.CREATING:
        yield CREATED
    ran = was in (ContainerState.RUNNING, ContainerState.UNKNOWN, ContainerState.EXITED)
    if not ran and (now is ContainerState.RUNNING or (now is ContainerState.EXITED and after.started_at)):
        yield STARTED
    if now is ContainerState.EXITED and was is not ContainerState.EXITED:
        yield STOPPED


def of_sandbox(before: Sandbox | None, after: Sandbox | None) -> Iterator[Kind]:
    """Yield the events of a change of a sandbox's record; none while the sandbox is being made."""
    was = SandboxState.CREATING if before is None else before.state
    if after is None:
        if was is not SandboxState.CREATING:
            yield from () if was is SandboxState.NOT_READY else (STOPPED,)
            yield DELETED
        return
    if was is SandboxState.CREATING and after.state is SandboxState.READY:
        yield from (CREATED, STARTED)
    if after.state is SandboxState.NOT_READY and was is not SandboxState.NOT_READY:
        yield STOPPED


def message(about: str, kind: Kind, sandbox: Sandbox | None, members: Iterable[Container], at: int) -> bytes:
    """Return an event, serialised once for all subscribers.

    `about` is the id of the container or sandbox, `members` are the sandbox's containers, `at` is the time in
    nanoseconds since 1970.
    """
    event = cri.ContainerEventResponse(container_id=about, container_event_type=kind, created_at=at)
    if sandbox is not None:
        event.pod_sandbox_status.CopyFrom(views.pod_status(sandbox))
        event.containers_statuses.extend(
            views.container_status(one) for one in members if one.state is not ContainerState.CREATING
        )
    return event.SerializeToString()
