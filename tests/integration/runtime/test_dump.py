"""Checkpoints and restores with real containers and an OCI runtime that does CRIU's part by itself, on any kernel.

Its `checkpoint` writes files of no meaning and notes whether the container was frozen; its `restore` runs the bundle's
own command. What CRIU does is tested where it works, in tests/integration/cri.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from kernel.config.sections import Config, Handler
from kernel.contracts.runtime import ContainerRequest, DumpRequest, NamespaceMode, SealRequest
from kernel.errors import FailedPrecondition, Internal, InvalidInput, Unavailable
from kernel.ids import ContainerId, SandboxId
from services.runtime.programs import criu
from tests.integration.runtime.conftest import Node, _node

WRAPPER = """#!/bin/sh
base=$(dirname "$0")
globals= images= bundle= pidfile= id= command= log=
for word in "$@"; do
  case "$previous" in
    --image-path) images=$word ;; --bundle) bundle=$word ;; --pid-file) pidfile=$word ;;
  esac
  case "$word" in
    --root=*|--log=*|--log-format=*) globals="$globals $word" ;;
    checkpoint|restore) command=$word ;;
  esac
  case "$word" in --log=*) log=${word#--log=} ;; esac
  previous=$word id=$word
done
case "$command" in
  checkpoint)
    [ "$id" = --help ] && exit 0
    runc $globals state "$id" | grep -o '"status": "[a-z]*"' >"$base/seen"
    echo pages >"$images/pages-1.img"; echo inventory >"$images/inventory.img"
    echo said >"$images/../dump.log"
    while [ -e "$base/slow" ]; do sleep 0.05; done
    if [ -e "$base/broken" ]; then
      echo 'Error (x.c:1): it cannot be' >"$images/../dump.log"
      echo '{"level":"error","msg":"criu failed"}' >"$log"; exit 1
    fi ;;
  restore)
    if [ -e "$base/broken" ]; then
      echo 'Error (y.c:1): it cannot come back' >"$bundle/restore.log"
      echo '{"level":"error","msg":"criu failed"}' >"$log"; exit 1
    fi
    [ -e "$images/inventory.img" ] || exit 1
    uts=$(grep -o '"type":"uts","path":"[^"]*"' "$bundle/config.json" | cut -d'"' -f8)
    if [ -n "$uts" ]; then nsenter --uts="$uts" hostname before && touch "$base/named"; fi
    exec runc $globals run --bundle "$bundle" --pid-file "$pidfile" --detach "$id" ;;
  *) exec runc "$@" ;;
esac
"""
COUNT = ("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.05; done")


@pytest.fixture
async def fake(
    config: Config, base: Path, parent: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Node]:
    async def works(*_: object) -> None:
        """As on a host where it does."""

    monkeypatch.setattr(criu, "check", works)
    wrapper = base / "runc"
    wrapper.write_text(WRAPPER)
    wrapper.chmod(0o755)
    handlers = {"runc": Handler(path=str(wrapper))}
    runtime = msgspec.structs.replace(config.runtime, handlers=handlers)
    async for found in _node(msgspec.structs.replace(config, runtime=runtime), base, parent, tree):
        yield found


def archive_of(node: Node) -> Path:
    folder = node.base / "archives"
    folder.mkdir(exist_ok=True)
    return folder / "archive.tar"


async def dump(node: Node, container: ContainerId, seconds: float = 60) -> None:
    request = DumpRequest(container_id=container, location=str(archive_of(node)))
    await node.service.dump(request, node.call(seconds))  # type: ignore[arg-type]


async def seal(node: Node, container: ContainerId) -> None:
    request = SealRequest(
        container_id=container, location=str(archive_of(node)), name="box", image_id="sha256:" + "1" * 64,
        image_name="busybox",
    )  # fmt: skip
    await node.service.seal(request, node.call())  # type: ignore[arg-type]


async def thaw(node: Node, container: ContainerId) -> None:
    await node.service.thaw(ContainerRequest(container_id=container), node.call())  # type: ignore[arg-type]


def counted(node: Node, container: ContainerId) -> int:
    path = node.config.paths.rootfs(container) / "count"
    return int(path.read_text() or 0) if path.exists() else 0


async def counts(node: Node, container: ContainerId) -> None:
    """It runs: its count goes up."""
    before = counted(node, container)
    async with asyncio.timeout(20):
        while counted(node, container) <= before + 1:
            await asyncio.sleep(0.01)


async def stands(node: Node, container: ContainerId) -> bool:
    before = counted(node, container)
    await asyncio.sleep(0.4)
    return counted(node, container) == before


async def test_a_container_is_frozen_until_its_archive_is_asked_for(fake: Node) -> None:
    container = await fake.run(await fake.pod(), *COUNT)
    await counts(fake, container)
    await dump(fake, container)
    assert (fake.base / "seen").read_text().strip() == '"status": "paused"'
    assert await stands(fake, container)
    assert (await fake.fact(container)).frozen
    folder = fake.config.paths.checkpoint(container)
    (folder / "rootfs-diff.tar").write_bytes(bytes(1024))  # storage's part
    await seal(fake, container)
    await counts(fake, container)
    assert not (await fake.fact(container)).frozen
    with tarfile.open(archive_of(fake)) as archive:
        assert archive.getnames() == [
            "checkpoint", "checkpoint/inventory.img", "checkpoint/pages-1.img", "bind.mounts", "config.dump",
            "dump.log", "rootfs-diff.tar", "spec.dump",
        ]  # fmt: skip
        said = archive.extractfile("spec.dump")
        assert said is not None
        assert json.load(said)["process"]["args"] == list(COUNT)
    assert archive_of(fake).stat().st_mode & 0o777 == 0o600
    assert not folder.exists()
    assert list(archive_of(fake).parent.iterdir()) == [archive_of(fake)]


async def test_nobody_asks_for_it(fake: Node) -> None:
    container = await fake.run(await fake.pod(), *COUNT)
    await dump(fake, container, seconds=1)
    await counts(fake, container)
    with pytest.raises(Unavailable, match="cut off"):
        await seal(fake, container)
    await dump(fake, container)
    await thaw(fake, container)
    await thaw(fake, container)
    await counts(fake, container)
    assert not fake.config.paths.checkpoint(container).exists()
    assert not archive_of(fake).exists()


async def test_criu_fails_and_the_container_runs_on(fake: Node) -> None:
    container = await fake.run(await fake.pod(), *COUNT)
    (fake.base / "broken").touch()
    with pytest.raises(Internal, match=r"criu failed: Error \(x.c:1\): it cannot be"):
        await dump(fake, container)
    await counts(fake, container)
    assert not fake.config.paths.checkpoint(container).exists()


async def test_a_bug_in_the_middle_of_a_dump_leaves_nothing_frozen(fake: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise KeyError("a bug")

    container = await fake.run(await fake.pod(), *COUNT)
    monkeypatch.setattr(criu, "dump", broken)
    with pytest.raises(KeyError):
        await dump(fake, container)
    assert not (await fake.fact(container)).frozen
    await counts(fake, container)


async def test_two_who_ask_at_once_get_one_dump(fake: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    dumps, real = list[object](), criu.dump

    async def counting(command: list[str], folder: Path, log: Path) -> None:
        dumps.append(command)
        await real(command, folder, log)

    monkeypatch.setattr(criu, "dump", counting)
    container = await fake.run(await fake.pod(), *COUNT)
    await asyncio.gather(dump(fake, container), dump(fake, container))
    assert len(dumps) == 1
    await seal(fake, container)
    await counts(fake, container)


async def test_a_worker_dies_with_a_frozen_container(fake: Node) -> None:
    container = await fake.run(await fake.pod(), *COUNT)
    await dump(fake, container)
    await fake.restart()
    await counts(fake, container)
    with pytest.raises(Unavailable, match="cut off"):
        await seal(fake, container)
    await dump(fake, container)
    await seal(fake, container)
    await counts(fake, container)


async def test_a_worker_dies_while_criu_is_at_work(fake: Node) -> None:
    container = await fake.run(await fake.pod(), *COUNT)
    (fake.base / "slow").touch()
    under_way = asyncio.get_running_loop().create_task(dump(fake, container))
    async with asyncio.timeout(20):
        while not (fake.base / "seen").exists():
            await asyncio.sleep(0.01)
    await fake.restart()
    assert await stands(fake, container)  # nobody interferes with CRIU
    (fake.base / "slow").unlink()
    await counts(fake, container)
    await asyncio.gather(under_way, return_exceptions=True)


async def test_a_thaw_in_the_middle_of_a_dump_waits_for_it(fake: Node) -> None:
    container = await fake.run(await fake.pod(), *COUNT)
    (fake.base / "slow").touch()
    under_way = asyncio.get_running_loop().create_task(dump(fake, container))
    async with asyncio.timeout(20):
        while not (fake.base / "seen").exists():
            await asyncio.sleep(0.01)
    assert (await fake.fact(container)).frozen
    thawed = asyncio.get_running_loop().create_task(thaw(fake, container))
    assert await stands(fake, container)
    (fake.base / "slow").unlink()
    await asyncio.gather(under_way, thawed)
    await counts(fake, container)
    assert not (await fake.fact(container)).frozen
    with pytest.raises(Unavailable, match="cut off"):
        await seal(fake, container)


async def test_a_frozen_container_is_stopped_and_removed(fake: Node) -> None:
    sandbox = await fake.pod()
    container = await fake.run(sandbox, *COUNT)
    await dump(fake, container)
    await fake.stop(container, timeout=0)
    assert (await fake.fact(container)).exit_code == 137
    other = await fake.run(sandbox, *COUNT)
    await dump(fake, other)
    await fake.remove(other)


async def test_what_cannot_be_checkpointed(fake: Node) -> None:
    container = await fake.run(await fake.pod(), "true")
    await fake.ended(container)
    with pytest.raises(FailedPrecondition, match="not running"):
        await dump(fake, container)
    request = DumpRequest(container_id=container, location="/etc/x")
    with pytest.raises(InvalidInput, match="location"):
        await fake.service.dump(request, fake.call())  # type: ignore[arg-type]


async def restoring(node: Node, sandbox: SandboxId, *args: str) -> ContainerId:
    """Created, with a checkpoint laid out as storage does."""
    request = node.create_request(sandbox, *args, restores=True)
    images = node.config.paths.checkpoint(request.container_id) / "checkpoint"
    images.mkdir(parents=True)
    (images / "inventory.img").write_text("inventory")
    created = await node.create(request)
    assert created.pid == 0
    return request.container_id


async def test_a_start_restores(fake: Node) -> None:
    sandbox = await fake.pod()
    container = await restoring(fake, sandbox, *COUNT)
    fact = await fake.fact(container)
    assert (fact.state, fact.pid) == ("created", 0)
    await fake.restart()  # it waits over a restart
    started = await fake.service.start(ContainerRequest(container_id=container), fake.call())  # type: ignore[arg-type]
    assert started.pid == (await fake.fact(container)).pid > 0
    await counts(fake, container)
    assert not fake.config.paths.checkpoint(container).exists()
    assert await fake.start(container) == started.started_at  # once more is once
    await fake.restart()
    assert (await fake.fact(container)).state == "running"
    assert (await fake.exec(container, "true")).exit_code == 0
    await dump(fake, container)
    await seal(fake, container)
    await fake.stop(container, timeout=0)
    assert (await fake.fact(container)).exit_code == 137


async def test_the_pod_keeps_its_host_name(fake: Node) -> None:
    sandbox = await fake.pod(network=NamespaceMode.POD, hostname="after")
    container = await restoring(fake, sandbox, *COUNT)
    await fake.start(container)
    assert (fake.base / "named").exists()  # as CRIU does, with the name of the pod that was dumped
    assert (await fake.exec(container, "hostname")).stdout == b"after\n"


async def test_its_log_and_exit_code_are_conmon_s(fake: Node) -> None:
    sandbox = await fake.pod()
    container = await restoring(fake, sandbox, "sh", "-c", "echo back; exit 5")
    await fake.start(container)
    assert (await fake.ended(container)).exit_code == 5
    assert [line.split(" ", 3)[3] for line in fake.log(sandbox, container)] == ["back"]


async def test_a_restore_that_fails_can_be_tried_again(fake: Node) -> None:
    container = await restoring(fake, await fake.pod(), *COUNT)
    (fake.base / "broken").touch()
    with pytest.raises(Internal, match=r"criu failed: Error \(y.c:1\): it cannot come back"):
        await fake.start(container)
    assert (await fake.fact(container)).state == "created"
    (fake.base / "broken").unlink()
    await fake.start(container)
    await counts(fake, container)


@pytest.mark.parametrize("step", ["stop", "remove", "stop_pod"])
async def test_one_that_was_never_started_ends(fake: Node, step: str) -> None:
    sandbox = await fake.pod()
    container = await restoring(fake, sandbox, *COUNT)
    if step == "stop":
        await fake.stop(container)
        fact = await fake.fact(container)
        assert (fact.state, fact.exit_code) == ("exited", 137)
        with pytest.raises(FailedPrecondition, match="ended before"):
            await fake.start(container)
        await fake.restart()
        assert (await fake.fact(container)).state == "exited"
    elif step == "remove":
        await fake.remove(container)
        assert container not in {fact.container_id for fact in (await fake.facts()).containers}


async def test_a_worker_dies_while_it_restores(fake: Node) -> None:
    container = await restoring(fake, await fake.pod(), *COUNT)
    known = fake.service._containers.get(container)
    known.bundle.state.write(msgspec.structs.replace(known.state, phase="starting", started_at=5))
    await fake.restart()  # before the OCI runtime was asked
    assert (await fake.fact(container)).state == "created"
    await fake.start(container)
    pid = (await fake.fact(container)).pid
    known = fake.service._containers.get(container)
    known.bundle.state.write(msgspec.structs.replace(known.state, phase="starting", process=None, conmon=None))
    await fake.restart()  # after it was
    fact = await fake.fact(container)
    assert (fact.state, fact.pid) == ("running", pid)
    os.kill(pid, signal.SIGKILL)
    assert (await fake.ended(container)).exit_code == 137


async def test_mounts_of_the_processes_must_be_there(fake: Node) -> None:
    request = fake.create_request(await fake.pod(), *COUNT, restores=True, restored_mounts=("/data",))
    with pytest.raises(InvalidInput, match=r"mounts: .*: /data"):
        await fake.create(request)
