"""The worker dies and comes back; monitors die; watchers hear of all of it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import msgspec
import pytest

from kernel.contracts.definition import Nothing
from kernel.contracts.runtime import Changed, Facts, SandboxRequest
from kernel.host import pidfd
from kernel.host.pidfd import identify
from services.runtime import methods
from services.runtime.exits.proc_connector import ProcConnector
from services.runtime.records.bundle import ContainerBundle
from tests.integration.runtime.conftest import Node


async def test_a_new_worker_takes_up_what_it_finds(node: Node) -> None:
    sandbox = await node.pod()
    running = await node.run(sandbox, "sleep", "100")
    waiting = node.create_request(sandbox, "sleep", "100")
    created = await node.create(waiting)
    ending = await node.run(sandbox, "sh", "-c", "while ! test -e /go; do sleep 0.05; done; exit 9")
    before = await node.fact(running)
    await node.service.close()
    (node.config.paths.rootfs(ending) / "go").touch()
    exit_file = ContainerBundle(node.config.paths.runtime_state, ending).exit_file
    async with asyncio.timeout(10):
        while not exit_file.exists():
            await asyncio.sleep(0.02)
    node.service = await methods.create(node.config)
    fact = await node.ended(ending)
    assert (fact.exit_code, fact.finished_at) == (9, exit_file.stat().st_mtime_ns)
    assert await node.fact(running) == before
    assert await node.create(waiting) == created
    assert await node.start(running) == before.started_at
    await node.start(waiting.container_id)
    assert (await node.exec(running, "echo", "here")).stdout == b"here\n"
    assert [(pod.sandbox_id, pod.ready) for pod in (await node.facts()).pods] == [(sandbox, True)]
    await node.restart()
    assert (await node.fact(waiting.container_id)).state == "running"
    await node.stop(running, 0)


WORKER = """
import asyncio, sys
import msgspec
from kernel.config.reading import Config
from kernel.contracts.runtime import ContainerRequest, CreateRequest, PodRequest
from services.runtime import methods

async def main():
    config = msgspec.json.decode(sys.stdin.readline(), type=Config)
    pod = msgspec.json.decode(sys.stdin.readline(), type=PodRequest)
    requests = [msgspec.json.decode(sys.stdin.readline(), type=CreateRequest) for _ in range(2)]
    service = await methods.create(config)
    await service.make_pod(pod, None)
    await service.create(requests[0], None)
    await service.start(ContainerRequest(container_id=requests[0].container_id), None)
    print("running", flush=True)
    await service.create(requests[1], None)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.mark.parametrize("delay", [0.0, 0.004, 0.02, 0.05, 0.2])
async def test_a_worker_that_is_killed_with_its_whole_session_takes_nothing_along(node: Node, delay: float) -> None:
    pod = node.pod_request()
    first = node.create_request(pod.sandbox_id, "sh", "-c", "while ! test -e /go; do sleep 0.05; done; echo on; exit 9")
    second = node.create_request(pod.sandbox_id, "sleep", "100")
    await node.service.close()
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, stdin=-1, stdout=-1, start_new_session=True
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(b"".join(msgspec.json.encode(part) + b"\n" for part in (node.config, pod, first, second)))
    async with asyncio.timeout(20):
        assert await worker.stdout.readline() == b"running\n"
    await asyncio.sleep(delay)  # into the creation of the second
    os.killpg(worker.pid, signal.SIGKILL)
    await worker.wait()
    (node.config.paths.rootfs(first.container_id) / "go").touch()
    node.service = await methods.create(node.config)
    assert (await node.ended(first.container_id)).exit_code == 9
    assert len(node.log(pod.sandbox_id, first.container_id)) == 1
    await node.create(second)
    await node.start(second.container_id)
    assert (await node.fact(second.container_id)).state == "running"


async def test_every_watcher_hears_facts_and_then_changes(node: Node) -> None:
    container = await node.run(await node.pod(), "sh", "-c", "while ! test -e /go; do sleep 0.05; done")
    watches = [node.watch() for _ in range(3)]
    for watch in watches:
        first = await anext(watch)
        assert isinstance(first, Facts)
        assert [fact.state for fact in first.containers] == ["running"]
    (node.config.paths.rootfs(container) / "go").touch()
    async with asyncio.timeout(10):
        for watch in watches:
            change = await anext(watch)
            assert isinstance(change, Changed)
            assert (change.fact.container_id, change.fact.exit_code) == (container, 0)
    for watch in watches:
        await watch.aclose()


@pytest.mark.parametrize("kernel_keeps_it", [True, False])
async def test_the_exit_code_survives_the_monitor(
    node: Node, monkeypatch: pytest.MonkeyPatch, kernel_keeps_it: bool
) -> None:
    if kernel_keeps_it and not pidfd.KERNEL_KEEPS_EXIT_CODES:
        pytest.skip("this kernel keeps no exit codes")
    monkeypatch.setattr(pidfd, "KERNEL_KEEPS_EXIT_CODES", kernel_keeps_it)
    connector = ProcConnector()
    with connector.listen():
        process_events = connector.speaks
    container = await node.run(await node.pod(), "sh", "-c", "while ! test -e /go; do sleep 0.05; done; exit 6")
    conmon = int((node.config.paths.runtime_state / "containers" / container / "conmon.pid").read_text())
    os.kill(conmon, signal.SIGKILL)
    async with asyncio.timeout(10):
        while not (await node.fact(container)).monitor_lost:
            await asyncio.sleep(0.02)
    (node.config.paths.rootfs(container) / "go").touch()
    fact = await node.ended(container)
    if not kernel_keeps_it and not process_events:  # then nobody can know
        assert (fact.state, fact.exit_code) == ("unknown", 255)
        return
    assert (fact.state, fact.exit_code) == ("exited", 6)


async def test_a_half_made_container_is_made_again(node: Node) -> None:
    sandbox = await node.pod()
    request = node.create_request(sandbox, "sleep", "100")
    first = await node.create(request)
    bundle = ContainerBundle(node.config.paths.runtime_state, request.container_id)
    state = bundle.state.read()
    assert state is not None
    await node.service.close()
    bundle.state.write(msgspec.structs.replace(state, phase="creating", process=None, conmon=None, created=None))
    node.service = await methods.create(node.config)
    assert (await node.facts()).containers == ()
    assert (await node.service.inventory(Nothing(), node.call())).containers == (request.container_id,)
    second = await node.create(request)
    assert second.pid != first.pid
    assert identify(first.pid) is None
    await node.start(request.container_id)


async def test_a_start_that_was_cut_short_is_looked_up(node: Node) -> None:
    sandbox = await node.pod()
    request = node.create_request(sandbox, "sh", "-c", "echo started; sleep 100")
    await node.create(request)
    bundle = ContainerBundle(node.config.paths.runtime_state, request.container_id)
    for started_before in (False, True):
        state = bundle.state.read()
        assert state is not None
        await node.service.close()
        bundle.state.write(msgspec.structs.replace(state, phase="starting", started_at=5))
        node.service = await methods.create(node.config)
        assert (await node.start(request.container_id) == 5) is started_before
    async with asyncio.timeout(10):
        while not node.log(sandbox, request.container_id):  # conmon writes it a moment later
            await asyncio.sleep(0.01)
    await node.stop(request.container_id, 0)
    assert len(node.log(sandbox, request.container_id)) == 1


async def test_a_damaged_bundle_costs_only_itself(node: Node) -> None:
    sandbox = await node.pod()
    good, bad = await node.run(sandbox, "sleep", "100"), await node.run(sandbox, "sleep", "100")
    bundle = ContainerBundle(node.config.paths.runtime_state, bad)
    whole = (bundle.path / "state.json").read_bytes()
    await node.service.close()
    (bundle.path / "state.json").write_bytes(b'{"phase": "star')
    node.service = await methods.create(node.config)
    told = await node.facts()
    assert [fact.container_id for fact in told.containers] == [good]
    assert told.unreadable == (bad,)
    await node.service.close()
    (bundle.path / "state.json").write_bytes(whole)
    node.service = await methods.create(node.config)
    assert len((await node.facts()).containers) == 2


@pytest.mark.parametrize("end", ["stop", "remove", "remove_pod"])
async def test_a_container_whose_state_is_damaged_is_killed_all_the_same(node: Node, end: str) -> None:
    sandbox = await node.pod()
    container = await node.run(sandbox, "sleep", "100")
    process = identify((await node.fact(container)).pid)
    assert process is not None
    bundle = ContainerBundle(node.config.paths.runtime_state, container)
    await node.service.close()
    (bundle.path / "state.json").write_bytes(b"{")
    node.service = await methods.create(node.config)
    if end == "remove_pod":
        await node.service.remove_pod(SandboxRequest(sandbox_id=sandbox), node.call())
    else:
        await (node.stop(container) if end == "stop" else node.remove(container))
    assert identify(process.pid) != process
    assert not bundle.path.exists()
    assert (await node.facts()).unreadable == ()
