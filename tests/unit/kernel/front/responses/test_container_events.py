"""Which events the changes of a record make."""

from __future__ import annotations

import pytest

from kernel.contracts.records import Container, ContainerState, Sandbox, SandboxState
from kernel.front.responses import container_events
from kernel.front.responses.container_events import CREATED, DELETED, STARTED, STOPPED
from kernel.ids import ContainerId, ImageId, SandboxId


def container(state: str, started_at: int = 0) -> Container:
    return Container(
        id=ContainerId("c" * 64), sandbox_id=SandboxId("a" * 64), name="c", attempt=0, state=ContainerState(state),
        created_at=0, config=b"", image_id=ImageId("sha256:" + "0" * 64), image_ref="", image_name="",
        started_at=started_at,
    )  # fmt: skip


def sandbox(state: str) -> Sandbox:
    return Sandbox(
        id=SandboxId("a" * 64), name="n", namespace="ns", uid="u", attempt=0, state=SandboxState(state), created_at=0,
        handler="", config=b"",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        (None, container("creating"), []),
        (container("creating"), None, []),
        (container("creating"), container("created"), [CREATED]),
        (container("created"), container("running", 1), [STARTED]),
        (container("running", 1), container("running", 2), []),
        (container("running", 1), container("exited", 1), [STOPPED]),
        (container("created"), container("exited", 1), [STARTED, STOPPED]),
        (container("created"), container("exited"), [STOPPED]),
        (container("running", 1), container("unknown", 1), []),
        (container("unknown", 1), container("running", 1), []),
        (container("exited", 1), container("exited", 2), []),
        (container("exited", 1), None, [DELETED]),
        (container("running", 1), None, [STOPPED, DELETED]),
    ],
)
def test_what_a_containers_record_tells(before: Container | None, after: Container | None, kinds: list[int]) -> None:
    assert list(container_events.of_container(before, after)) == kinds


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        (None, sandbox("creating"), []),
        (sandbox("creating"), None, []),
        (sandbox("creating"), sandbox("ready"), [CREATED, STARTED]),
        (sandbox("ready"), sandbox("not_ready"), [STOPPED]),
        (sandbox("not_ready"), sandbox("not_ready"), []),
        (sandbox("not_ready"), None, [DELETED]),
        (sandbox("ready"), None, [STOPPED, DELETED]),
    ],
)
def test_what_a_sandboxs_record_tells(before: Sandbox | None, after: Sandbox | None, kinds: list[int]) -> None:
    assert list(container_events.of_sandbox(before, after)) == kinds
