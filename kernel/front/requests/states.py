"""The state that a container or a pod must be in for a request. Pure."""

from __future__ import annotations

from kernel.contracts.records import Container, ContainerState, Sandbox, SandboxState
from kernel.errors import FailedPrecondition


def running(record: Container) -> Container:
    """Return the container if it runs; otherwise raise FailedPrecondition."""
    if record.state is not ContainerState.RUNNING:
        raise FailedPrecondition(f"container {record.id} is {record.state.value}, not running")
    return record


def ready(record: Sandbox) -> Sandbox:
    """Return the pod if it is ready; otherwise raise FailedPrecondition."""
    if record.state is not SandboxState.READY:
        raise FailedPrecondition(f"pod sandbox {record.id} is {record.state.value}, not ready")
    return record
