"""What subscribers of GetContainerEvents are given, and how they end."""

from __future__ import annotations

from typing import cast

import msgspec
import pytest

from kernel.contracts.records import Container, ContainerState, Gone, Sandbox, SandboxState
from kernel.contracts.supervisor import Snapshot
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import ResourceExhausted, Unavailable
from kernel.front.memory.replica import Committer, Replica
from kernel.front.memory.subscribers import Subscriber, Subscribers
from kernel.front.responses.container_events import DELETED, STOPPED
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


async def test_a_subscriber_that_falls_behind_is_ended_and_told_so() -> None:
    slow = Subscriber(2)
    for event in (b"1", b"2", b"3"):
        slow.send(event)
    with pytest.raises(ResourceExhausted, match="more than 2 events behind"):
        await anext(slow.follow())


async def test_what_was_told_before_the_end_is_still_read() -> None:
    one = Subscriber(2)
    one.send(b"1")
    one.end()
    stream = one.follow()
    assert await anext(stream) == b"1"
    with pytest.raises(Unavailable):
        await anext(stream)


async def test_what_was_removed_before_a_start_is_replayed_and_what_was_never_listed_is_not() -> None:
    replica = Replica(cast("Committer", None))
    one, pod = container("exited"), sandbox("not_ready")
    never = msgspec.structs.replace(container("creating"), id=ContainerId("d" * 64))
    told = Subscribers()
    told.begin(Snapshot(
        sandboxes=(), containers=(), images=(), intents=(), exits=(),
        gone=(Gone(at=1, container=never), Gone(at=1, container=one), Gone(at=2, sandbox=pod)),
    ))  # fmt: skip
    stream = told.follow(replica)
    found = [cri.ContainerEventResponse.FromString(await anext(stream)) for _ in range(4)]
    assert [(event.container_id, event.container_event_type) for event in found] == [
        (one.id, STOPPED), (one.id, DELETED), (pod.id, STOPPED), (pod.id, DELETED),
    ]  # fmt: skip
    assert {event.pod_sandbox_status.id for event in found} == {pod.id}
    told.close()
    with pytest.raises(Unavailable):
        await anext(stream)
