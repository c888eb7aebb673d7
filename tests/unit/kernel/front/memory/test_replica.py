"""Records in memory: changed only by what is on disk, found by id, name and reference."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from msgspec.structs import replace

from kernel.bus.client import Client
from kernel.contracts.records import Container, ContainerState, Exit, Intent, IntentKind, Sandbox, SandboxState
from kernel.contracts.supervisor import Commit, Snapshot
from kernel.errors import DeadlineExceeded, InvalidInput, NotFound, Unavailable
from kernel.front.memory.replica import Replica
from kernel.front.requests import keys
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, SandboxId
from tests.harness.fakes import pod_workers as fakes

POD = Sandbox(
    id=SandboxId("ab" * 32), name="web", namespace="default", uid="u", attempt=0, state=SandboxState.READY,
    created_at=1, handler="", config=b"",
)  # fmt: skip
ONE = Container(
    id=ContainerId("cd" * 32), sandbox_id=POD.id, name="main", attempt=0, state=ContainerState.RUNNING, created_at=1,
    config=b"", image_id=fakes.IMAGE.id, image_ref="ref", image_name="busybox",
)  # fmt: skip


@pytest.fixture
def replica(host: fakes.Host) -> Replica:
    made = Replica(cast("Client", host))
    made.load(
        Snapshot(sandboxes=(POD,), containers=(ONE,), images=(fakes.IMAGE,), intents=(), exits=(), damaged="torn")
    )
    return made


async def test_a_commit_that_fails_changes_nothing(replica: Replica, host: fakes.Host) -> None:
    host.fail["commit"] = [Unavailable("the supervisor is away")]
    with pytest.raises(Unavailable):
        await replica.commit(Commit(delete_sandboxes=(POD.id,)), Deadline.after(5))
    assert replica.sandbox(POD.id) is POD


async def test_what_is_loaded_is_what_is_told(replica: Replica) -> None:
    told = replica.snapshot()
    assert (told.sandboxes, told.containers, told.images, told.damaged) == ((POD,), (ONE,), (fakes.IMAGE,), "torn")


async def test_ids_may_be_cut_short_and_must_be_clear(replica: Replica, host: fakes.Host) -> None:
    assert replica.sandbox("abab") is POD
    assert replica.container(ONE.id) is ONE
    other = replace(POD, id=SandboxId("ab" * 31 + "cc"), uid="v")
    await replica.commit(Commit(put_sandboxes=(other,)), Deadline.after(5))
    with pytest.raises(InvalidInput, match="more than one"):
        replica.sandbox("ab")
    assert replica.sandbox(POD.id) is POD
    for unknown in ("ff", "../x", "AB" * 32, POD.id + "0", "ü"):
        with pytest.raises(NotFound):
            replica.sandbox(unknown)
    with pytest.raises(InvalidInput, match="container_id"):
        replica.container("")


async def test_what_is_being_made_is_not_listed(replica: Replica) -> None:
    making = replace(POD, state=SandboxState.CREATING)
    await replica.commit(Commit(put_sandboxes=(making,)), Deadline.after(5))
    assert list(replica.listed_sandboxes()) == []
    with pytest.raises(NotFound):
        replica.sandbox(POD.id)
    assert replica.sandbox_named(keys.of_sandbox(POD)) is making


async def test_a_repeat_does_not_mean_what_is_on_its_way_out(replica: Replica) -> None:
    assert replica.sandbox_named(keys.of_sandbox(POD)) is POD
    assert replica.container_named(keys.of_container(ONE)) is ONE
    intents = (
        Intent(id=POD.id, kind=IntentKind.STOP_SANDBOX, begun_at=1),
        Intent(id=ONE.id, kind=IntentKind.REMOVE_CONTAINER, begun_at=1),
    )
    await replica.commit(Commit(begin=intents), Deadline.after(5))
    assert replica.sandbox_named(keys.of_sandbox(POD)) is None
    assert replica.container_named(keys.of_container(ONE)) is None
    await replica.commit(Commit(end=(POD.id, ONE.id)), Deadline.after(5))
    assert replica.sandbox_named(keys.of_sandbox(POD)) is POD


async def test_a_removed_image_is_found_by_no_name(replica: Replica) -> None:
    assert replica.image("busybox") is fakes.IMAGE
    assert replica.image("busybox:1.36") is None
    retagged = replace(fakes.IMAGE, tags=("docker.io/library/other:latest",))
    await replica.commit(Commit(put_images=(retagged,)), Deadline.after(5))
    assert replica.image("busybox") is None
    assert replica.image("other") is retagged
    await replica.commit(Commit(delete_images=(fakes.IMAGE.id,)), Deadline.after(5))
    for name in ("other", fakes.IMAGE.id, fakes.IMAGE.digests[0]):
        assert replica.image(name) is None
    for malformed in ("sha256:xyz", "Busybox", "http://x/y"):
        with pytest.raises(InvalidInput):
            replica.image(malformed)


async def test_containers_go_with_their_exits(replica: Replica) -> None:
    replica.exits[ONE.id] = Exit(container_id=ONE.id, exit_code=1, finished_at=1, oom_killed=False)
    assert replica.uses(fakes.IMAGE.id) == [ONE]
    assert replica.containers_of(POD.id) == [ONE]
    await replica.commit(Commit(delete_containers=(ONE.id,)), Deadline.after(5))
    assert replica.exits == {}
    assert replica.containers_of(POD.id) == []


async def test_a_change_sees_what_the_one_before_it_committed(replica: Replica, host: fakes.Host) -> None:
    def renamed(suffix: str) -> Commit:
        now = replica.containers[ONE.id]
        return Commit(put_containers=(replace(now, message=now.message + suffix),))

    await asyncio.gather(*(replica.change(ONE.id, lambda s=s: renamed(s), Deadline.after(5)) for s in "abc"))
    assert sorted(replica.container(ONE.id).message) == ["a", "b", "c"]
    before = host.count("commit")
    await replica.change(ONE.id, lambda: None, Deadline.after(5))
    assert host.count("commit") == before


async def test_waiting_for_a_container_ends_with_it(replica: Replica) -> None:
    def exited(record: Container) -> bool:
        return record.state is ContainerState.EXITED

    with pytest.raises(DeadlineExceeded, match="running"):
        await replica.wait_container(ONE.id, exited, Deadline.after(0.01))
    waiting = asyncio.get_running_loop().create_task(replica.wait_container(ONE.id, exited, Deadline.after(5)))
    await asyncio.sleep(0)
    await replica.commit(Commit(delete_containers=(ONE.id,)), Deadline.after(5))
    await waiting
