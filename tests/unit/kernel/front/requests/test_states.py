"""Only a running container and a ready pod pass."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from kernel.contracts.records import Container, ContainerState, Sandbox, SandboxState
from kernel.errors import FailedPrecondition
from kernel.front.requests import states
from kernel.ids import ContainerId, ImageId, SandboxId

POD = Sandbox(
    id=SandboxId("a" * 64), name="n", namespace="ns", uid="u", attempt=0, state=SandboxState.READY, created_at=0,
    handler="", config=b"",
)  # fmt: skip
ONE = Container(
    id=ContainerId("c" * 64), sandbox_id=POD.id, name="c", attempt=0, state=ContainerState.RUNNING, created_at=0,
    config=b"", image_id=ImageId("sha256:" + "0" * 64), image_ref="", image_name="",
)  # fmt: skip


@pytest.mark.parametrize("state", ContainerState)
def test_only_a_running_container_passes(state: ContainerState) -> None:
    record = replace(ONE, state=state)
    if state is ContainerState.RUNNING:
        assert states.running(record) is record
    else:
        with pytest.raises(FailedPrecondition, match=f"{ONE.id} is {state.value}, not running"):
            states.running(record)


@pytest.mark.parametrize("state", SandboxState)
def test_only_a_ready_pod_passes(state: SandboxState) -> None:
    record = replace(POD, state=state)
    if state is SandboxState.READY:
        assert states.ready(record) is record
    else:
        with pytest.raises(FailedPrecondition, match=f"{POD.id} is {state.value}, not ready"):
            states.ready(record)
