"""Two records are the same object to a repeated call exactly if their keys are equal."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from kernel.contracts.records import Container, ContainerState, Sandbox, SandboxState
from kernel.front.requests import keys
from kernel.ids import ContainerId, ImageId, SandboxId

POD = Sandbox(
    id=SandboxId("a" * 64), name="n", namespace="ns", uid="u", attempt=0, state=SandboxState.READY, created_at=0,
    handler="", config=b"",
)  # fmt: skip
ONE = Container(
    id=ContainerId("c" * 64), sandbox_id=POD.id, name="c", attempt=0, state=ContainerState.CREATED, created_at=0,
    config=b"", image_id=ImageId("sha256:" + "0" * 64), image_ref="", image_name="",
)  # fmt: skip


@pytest.mark.parametrize("change", [{"name": "x"}, {"namespace": "x"}, {"uid": "x"}, {"attempt": 1}])
def test_a_pod_with_another_name_or_attempt_is_another(change: dict[str, object]) -> None:
    assert keys.of_sandbox(replace(POD, **change)) != keys.of_sandbox(POD)
    assert keys.of_sandbox(replace(POD, id=SandboxId("b" * 64), created_at=9)) == keys.of_sandbox(POD)


@pytest.mark.parametrize("change", [{"name": "x"}, {"sandbox_id": "b" * 64}, {"attempt": 1}])
def test_a_container_with_another_name_pod_or_attempt_is_another(change: dict[str, object]) -> None:
    assert keys.of_container(replace(ONE, **change)) != keys.of_container(ONE)
    assert keys.of_container(replace(ONE, id=ContainerId("d" * 64))) == keys.of_container(ONE)
