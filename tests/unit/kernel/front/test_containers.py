"""Containers through the front's flows with workers that fail, and what the runtime's watch makes of records."""

from __future__ import annotations

import asyncio
import json

import pytest

from kernel.contracts import runtime
from kernel.contracts.contract import Nothing
from kernel.contracts.records import ContainerState
from kernel.errors import AlreadyExists, FailedPrecondition, Internal, InvalidInput, NotFound
from kernel.front import containers, facts, queries, recovery, sessions
from kernel.front.context import Front
from kernel.front.generated import cri_pb2 as cri
from kernel.host.aio import Deadline
from tests.unit.kernel.front import pod_workers as fakes
from tests.unit.kernel.front.test_sandboxes import create, front, host, run, start

__all__ = ["front", "host"]


@pytest.fixture
async def pod(front: Front) -> str:
    return await run(front)


async def stop(front: Front, container: str, timeout: int = 0) -> None:
    request = cri.StopContainerRequest(container_id=container, timeout=timeout)
    await containers.stop_container(front, request, fakes.a_call("StopContainer"))


async def remove(front: Front, container: str) -> None:
    request = cri.RemoveContainerRequest(container_id=container)
    await containers.remove_container(front, request, fakes.a_call("RemoveContainer"))


async def test_equal_creations_are_one(front: Front, host: fakes.Host, pod: str) -> None:
    first, second = await asyncio.gather(create(front, pod), create(front, pod))
    assert first == second == await create(front, pod)
    assert host.count("create") == 1
    assert await create(front, pod, fakes.container_config(attempt=1)) != first


@pytest.mark.parametrize("step", ["mount", "create", "commit"])
async def test_a_creation_that_fails_leaves_nothing(front: Front, host: fakes.Host, pod: str, step: str) -> None:
    host.fail[step] = [None, Internal("broken")] if step == "commit" else [Internal("broken")]
    with pytest.raises(Internal, match="broken"):
        await create(front, pod)
    assert (host.mounts, host.containers, host.disk.containers, host.disk.intents) == (set(), {}, {}, {})
    assert await create(front, pod) in host.containers


async def test_what_a_creation_refuses(front: Front, host: fakes.Host, pod: str) -> None:
    with pytest.raises(NotFound, match="pull it first"):
        await create(front, pod, fakes.container_config(image="quay.io/none:1"))
    with pytest.raises(InvalidInput, match=r"config\.image"):
        await create(front, pod, fakes.container_config(image=""))
    with pytest.raises(NotFound):
        await create(front, "f" * 64)
    config = fakes.container_config()
    config.linux.security_context.namespace_options.pid = cri.TARGET
    config.linux.security_context.namespace_options.target_id = "e" * 64
    with pytest.raises(InvalidInput, match="target_id"):
        await create(front, pod, config)
    assert host.mounts == set()
    assert not host.disk.intents


async def test_an_image_is_known_by_id_tag_and_digest(front: Front, pod: str) -> None:
    names = [
        "busybox", "docker.io/library/busybox:latest", fakes.IMAGE.id, fakes.IMAGE.id.removeprefix("sha256:"),
        fakes.IMAGE.id.removeprefix("sha256:")[:12], fakes.IMAGE.digests[0],
    ]  # fmt: skip
    for attempt, name in enumerate(names):
        container = await create(front, pod, fakes.container_config(image=name, attempt=attempt))
        record = front.replica.container(container)
        assert (record.image_id, record.image_ref) == (fakes.IMAGE.id, fakes.IMAGE.digests[0])
    by_id = next(one for one in front.replica.containers.values() if one.attempt == 2)
    assert by_id.image_name == "docker.io/library/busybox:latest"


async def test_only_a_created_container_is_started(front: Front, host: fakes.Host, pod: str) -> None:
    container = await create(front, pod)
    await asyncio.gather(start(front, container), start(front, container))
    assert host.count("start") == 1
    with pytest.raises(FailedPrecondition, match="running"):
        await start(front, container)
    with pytest.raises(AlreadyExists, match="running"):
        await create(front, pod)
    host.exit(container)
    await front.replica.wait_container(
        front.replica.container(container).id,
        lambda record: record.state is ContainerState.EXITED,
        Deadline.after(5),
    )
    with pytest.raises(FailedPrecondition, match="exited"):
        await start(front, container)
    assert await create(front, pod) != container


@pytest.mark.parametrize(
    ("code", "oom", "reason"), [(0, False, "Completed"), (3, False, "Error"), (137, True, "OOMKilled")]
)
async def test_an_exit_reaches_the_status(
    front: Front, host: fakes.Host, pod: str, code: int, oom: bool, reason: str
) -> None:
    container = await create(front, pod)
    await start(front, container)
    host.exit(container, code, oom=oom)
    record = front.replica.container(container)
    await front.replica.wait_container(record.id, lambda one: one.state is ContainerState.EXITED, Deadline.after(5))
    request = cri.ContainerStatusRequest(container_id=container)
    status = (await queries.container_status(front, request, fakes.a_call())).status
    assert (status.exit_code, status.reason, status.started_at, status.finished_at) == (code, reason, 50, 99)


async def test_an_exit_that_comes_before_the_reply_to_start_is_kept(
    front: Front, host: fakes.Host, pod: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = await create(front, pod)
    answer = host._answer

    def exits_at_once(name: str, request: object) -> object:
        reply = answer(name, request)  # type: ignore[arg-type]
        if name == "start":
            host.exit(container, 4)
        return reply

    monkeypatch.setattr(host, "_answer", exits_at_once)
    await start(front, container)
    record = front.replica.container(container)
    await front.replica.wait_container(record.id, lambda one: one.state is ContainerState.EXITED, Deadline.after(5))
    record = front.replica.container(container)
    assert (record.exit_code, record.started_at) == (4, 50)


async def test_stop_and_remove_are_repeatable(front: Front, host: fakes.Host, pod: str) -> None:
    container = await create(front, pod)
    await start(front, container)
    await asyncio.gather(stop(front, container, 30), stop(front, container, 1))
    await stop(front, container)
    await remove(front, container)
    await remove(front, container)
    await stop(front, container)
    assert (host.mounts, host.containers) == (set(), {})
    with pytest.raises(InvalidInput, match="timeout"):
        await stop(front, container, -1)


async def test_a_running_container_is_removed_by_force(front: Front, host: fakes.Host, pod: str) -> None:
    container = await create(front, pod)
    await start(front, container)
    await remove(front, container)
    assert host.containers == {}
    with pytest.raises(NotFound):
        front.replica.container(container)


async def test_a_creation_that_a_crash_cut_off_is_finished(host: fakes.Host) -> None:
    before = fakes.make_front(host)
    pod = await run(before)
    host.hold["create"] = asyncio.Event()
    lost = asyncio.get_running_loop().create_task(create(before, pod))
    while "create" not in host.calls:
        await asyncio.sleep(0)
    lost.cancel()
    await before.tasks.close()
    del host.hold["create"]
    (record,) = host.disk.containers.values()
    after = fakes.make_front(host)
    recovering = after.tasks.start(recovery.recover(after), "recover")
    assert await create(after, pod) == record.id
    await recovering
    assert not host.disk.intents
    assert after.replica.container(record.id).state is ContainerState.CREATED
    await after.tasks.close()


async def test_what_happened_while_the_front_was_away_is_made_up_for(front: Front, host: fakes.Host, pod: str) -> None:
    ran, vanished, runs = [await create(front, pod, fakes.container_config(name)) for name in "abc"]
    for container in (ran, vanished, runs):
        await start(front, container)
    await front.tasks.close()
    host.exit(ran, 5)
    del host.containers[vanished]
    again = fakes.make_front(host)
    await facts.refresh(again, Deadline.after(5))
    assert again.replica.container(ran).exit_code == 5
    assert again.replica.container(vanished).exit_code == 255
    assert again.replica.container(runs).state is ContainerState.RUNNING
    assert host.disk.containers[again.replica.container(ran).id].exit_code == 5
    await again.tasks.close()


async def test_exec_is_checked_before_it_is_run(front: Front, pod: str) -> None:
    container = await create(front, pod)

    async def refused(*cmd: str, timeout: int = 0) -> str:
        request = cri.ExecSyncRequest(container_id=container, cmd=cmd, timeout=timeout)
        with pytest.raises((InvalidInput, FailedPrecondition)) as caught:
            await sessions.exec_sync(front, request, fakes.a_call("ExecSync"))
        return caught.value.message

    assert "cmd" in await refused()
    assert "timeout" in await refused("true", timeout=-1)
    assert "not running" in await refused("true")


async def test_a_verbose_status_gives_info_even_where_the_runtime_does_not(
    front: Front, host: fakes.Host, pod: str
) -> None:
    container = await create(front, pod)
    host.fail["inspect"] = [Internal("the runtime worker is away")]
    request = cri.ContainerStatusRequest(container_id=container, verbose=True)
    reply = await queries.container_status(front, request, fakes.a_call())
    info = json.loads(reply.info["info"])
    assert (info["sandboxID"], info["pid"]) == (pod, 7)
    assert "away" in info["error"]


async def test_the_fake_tells_facts_as_the_contract_has_them(host: fakes.Host) -> None:
    async for event in host.watch(runtime.WATCH, Nothing()):
        assert isinstance(event, runtime.Facts)
        break
