"""The states of sandboxes and containers, and the events that change them. Pure.

Only this file changes the `state` of a record. A process that learns of an event (the front from a flow or from the
runtime's watch, start-up from `kernel.state.recover`) calls the function named after it and commits the record that it
returns. A pair of state and event that the tables do not contain raises FailedPrecondition and changes nothing.

Rules:
- There is no state for an object that is being removed: its intent shows that, and in the end its record is deleted.
- An event that is reported twice changes nothing the second time: the watch and the reply to a call often report the
  same event, in either order.
- EXITED is final: a container never runs twice, and the first exit that was reported counts.

    sandbox      MADE           STOPPED
    CREATING     READY          NOT_READY
    READY        READY          NOT_READY
    NOT_READY    -              NOT_READY

    container    CREATED        STARTED       EXITED        OBSCURED
    CREATING     CREATED        -             EXITED        -
    CREATED      CREATED        RUNNING       EXITED        UNKNOWN
    RUNNING      -              RUNNING       EXITED        UNKNOWN
    EXITED       -              -             EXITED        EXITED
    UNKNOWN      CREATED        RUNNING       EXITED        UNKNOWN
"""

from __future__ import annotations

import enum

from msgspec.structs import replace

from kernel.contracts.records import Container, ContainerState, Sandbox, SandboxState
from kernel.errors import FailedPrecondition

UNKNOWN_EXIT_CODE = 255
"""The exit code of a container whose end was not observed; other runtimes report the same."""


MONITOR_LOST = "its monitor (conmon) was killed: nothing writes its log or takes an attach"
"""The status message of a container that runs, or ran, without a monitor."""


class SandboxEvent(enum.Enum):
    """An event in a sandbox's life."""

    MADE = "made"
    """Its namespaces and network are ready."""
    STOPPED = "stopped"
    """It was stopped, its pause process ended, or the host was booted again."""


class ContainerEvent(enum.Enum):
    """An event in a container's life."""

    CREATED = "created"
    """Its process waits to be started."""
    STARTED = "started"
    EXITED = "exited"
    """Its process ended, or is gone without an exit code."""
    OBSCURED = "obscured"
    """The runtime cannot read its state: it may run, and its state may be readable again later."""


SANDBOX: dict[SandboxState, dict[SandboxEvent, SandboxState]] = {
    SandboxState.CREATING: {
        SandboxEvent.MADE: SandboxState.READY,
        SandboxEvent.STOPPED: SandboxState.NOT_READY,
    },
    SandboxState.READY: {
        SandboxEvent.MADE: SandboxState.READY,
        SandboxEvent.STOPPED: SandboxState.NOT_READY,
    },
    SandboxState.NOT_READY: {
        SandboxEvent.STOPPED: SandboxState.NOT_READY,
    },
}

CONTAINER: dict[ContainerState, dict[ContainerEvent, ContainerState]] = {
    ContainerState.CREATING: {
        ContainerEvent.CREATED: ContainerState.CREATED,
        ContainerEvent.EXITED: ContainerState.EXITED,
    },
    ContainerState.CREATED: {
        ContainerEvent.CREATED: ContainerState.CREATED,
        ContainerEvent.STARTED: ContainerState.RUNNING,
        ContainerEvent.EXITED: ContainerState.EXITED,
        ContainerEvent.OBSCURED: ContainerState.UNKNOWN,
    },
    ContainerState.RUNNING: {
        ContainerEvent.STARTED: ContainerState.RUNNING,
        ContainerEvent.EXITED: ContainerState.EXITED,
        ContainerEvent.OBSCURED: ContainerState.UNKNOWN,
    },
    ContainerState.EXITED: {
        ContainerEvent.EXITED: ContainerState.EXITED,
        ContainerEvent.OBSCURED: ContainerState.EXITED,
    },
    ContainerState.UNKNOWN: {
        ContainerEvent.CREATED: ContainerState.CREATED,
        ContainerEvent.STARTED: ContainerState.RUNNING,
        ContainerEvent.EXITED: ContainerState.EXITED,
        ContainerEvent.OBSCURED: ContainerState.UNKNOWN,
    },
}


def sandbox_after(state: SandboxState, event: SandboxEvent) -> SandboxState:
    """Return the state after an event; FailedPrecondition if the event cannot happen in `state`."""
    try:
        return SANDBOX[state][event]
    except KeyError:
        raise FailedPrecondition(f"a pod sandbox that is {state.value} cannot be {event.value}") from None


def container_after(state: ContainerState, event: ContainerEvent) -> ContainerState:
    """Return the state after an event; FailedPrecondition if the event cannot happen in `state`."""
    try:
        return CONTAINER[state][event]
    except KeyError:
        raise FailedPrecondition(f"a container that is {state.value} cannot be {event.value}") from None


def sandbox_made(sandbox: Sandbox, *, ips: tuple[str, ...], network_up: bool, cgroup: str) -> Sandbox:
    """Return the sandbox as it is once its namespaces and network are ready."""
    state = sandbox_after(sandbox.state, SandboxEvent.MADE)
    return replace(sandbox, state=state, ips=ips, network_up=network_up, cgroup=cgroup)


def sandbox_stopped(sandbox: Sandbox, *, network_up: bool | None = None) -> Sandbox:
    """Return the sandbox as it is once it is stopped. `network_up=False`: its network is down too (DEL is done)."""
    state = sandbox_after(sandbox.state, SandboxEvent.STOPPED)
    return replace(sandbox, state=state, network_up=sandbox.network_up if network_up is None else network_up)


def container_created(
    container: Container, *, pid: int, uid: int, gid: int, supplemental_groups: tuple[int, ...], stop_signal: str
) -> Container:
    """Return the container as it is once its process waits to be started."""
    return replace(
        container,
        state=container_after(container.state, ContainerEvent.CREATED),
        pid=pid,
        uid=uid,
        gid=gid,
        supplemental_groups=supplemental_groups,
        stop_signal=stop_signal,
    )


def container_started(container: Container, *, started_at: int, pid: int = 0) -> Container:
    """Return the container as it is once it runs. `pid`: its process, if that is another one than before."""
    state = container_after(container.state, ContainerEvent.STARTED)
    return replace(container, state=state, started_at=started_at or container.started_at, pid=pid or container.pid)


def container_exited(container: Container, *, exit_code: int, finished_at: int, oom_killed: bool) -> Container:
    """Return the container as it is once its process has ended; unchanged if it had an end before."""
    state = container_after(container.state, ContainerEvent.EXITED)
    if container.state is ContainerState.EXITED:
        return container
    return replace(
        container,
        state=state,
        pid=0,
        exit_code=exit_code,
        finished_at=finished_at,
        reason=exit_reason(exit_code, oom_killed=oom_killed),
    )


def container_vanished(container: Container, *, now: int, why: str) -> Container:
    """Return the container as it is if its process is gone and no exit code is known."""
    state = container_after(container.state, ContainerEvent.EXITED)
    if container.state is ContainerState.EXITED:
        return container
    message = f"{container.message}; {why}" if container.message else why
    return replace(
        container, state=state, pid=0, exit_code=UNKNOWN_EXIT_CODE, finished_at=now, reason="Unknown", message=message
    )


def container_unmonitored(container: Container) -> Container:
    """Return the container as it is once its conmon was killed: it runs on, and its state stays."""
    return replace(container, message=MONITOR_LOST)


def container_obscured(container: Container) -> Container:
    """Return the container as it is while the runtime cannot read its state.

    The kubelet kills an unknown container before it starts another in its place.
    """
    return replace(container, state=container_after(container.state, ContainerEvent.OBSCURED))


def exit_reason(exit_code: int, *, oom_killed: bool) -> str:
    """Return the reason of an exit in the CRI's terms."""
    if oom_killed:
        return "OOMKilled"
    return "Error" if exit_code else "Completed"
