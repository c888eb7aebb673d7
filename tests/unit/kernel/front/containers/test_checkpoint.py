"""CheckpointContainer through the front's flow with workers of paper: whatever fails, the container runs on."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from kernel.contracts import runtime
from kernel.contracts.definition import Message, Nothing
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import CrispError, FailedPrecondition, Internal, InvalidInput, Unavailable
from kernel.front.containers import checkpoint
from kernel.front.context import Front
from tests.harness.fakes import pod_workers as fakes


class Host(fakes.Host):
    """One that can checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.sealed: list[runtime.SealRequest] = []
        self.frozen: set[str] = set()

    def _answer(self, name: str, request: Message) -> Message:
        match request:
            case runtime.DumpRequest():
                self.frozen.add(request.container_id)
            case runtime.SealRequest():
                self.frozen.discard(request.container_id)
                self.sealed.append(request)
            case runtime.ContainerRequest() if name == "thaw":
                self.frozen.discard(request.container_id)
            case Message() if name == "write_diff":
                assert self.frozen, "its files are read while it is frozen"
            case _:
                return super()._answer(name, request)
        return Nothing()


@pytest.fixture
def host() -> Host:
    return Host()


async def ask(front: Front, container: str, location: str = "/a/x.tar", timeout: int = 0, seconds: float = 5) -> None:
    request = cri.CheckpointContainerRequest(container_id=container, location=location, timeout=timeout)
    await checkpoint.checkpoint_container(front, request, fakes.a_call("CheckpointContainer", seconds))


@pytest.fixture
async def running(front: Front, pod: str) -> str:
    container = await fakes.create(front, pod)
    await fakes.start(front, container)
    return container


async def test_dump_files_and_archive_in_order(front: Front, host: Host, running: str) -> None:
    await ask(front, running)
    assert [name for name in host.calls if name in ("dump", "write_diff", "seal", "thaw")] == [
        "dump", "write_diff", "seal",
    ]  # fmt: skip
    said = host.sealed[0]
    assert (said.location, said.name, said.image_id) == ("/a/x.tar", "main", fakes.IMAGE.id)
    assert (said.image_name, said.image_tag, said.restored) == ("busybox", fakes.IMAGE.tags[0], False)


async def test_a_repeat_joins(front: Front, host: Host, running: str) -> None:
    await asyncio.gather(ask(front, running), ask(front, running))
    assert host.count("dump") == 1


@pytest.mark.parametrize("step", ["dump", "write_diff", "seal"])
async def test_a_step_that_fails_lets_it_run_on(front: Front, host: Host, running: str, step: str) -> None:
    host.fail[step] = [Internal("broken")]
    with pytest.raises(Internal, match="broken"):
        await ask(front, running)
    assert host.count("thaw") == 1
    assert not host.frozen


@pytest.mark.parametrize("step", ["write_diff", "seal"])
async def test_a_worker_that_died_costs_one_attempt(front: Front, host: Host, running: str, step: str) -> None:
    host.fail[step] = [Unavailable("gone"), Unavailable("gone")]
    await ask(front, running)
    assert host.count("dump") == 3
    host.fail[step] = [Unavailable("gone")] * 3
    with pytest.raises(Unavailable):
        await ask(front, running)
    assert not host.frozen


async def test_what_is_refused(front: Front, host: Host, running: str, pod: str) -> None:
    async def refused(kind: type[CrispError], word: str, **fields: object) -> None:
        with pytest.raises(kind, match=word):
            await ask(front, **{"container": running, **fields})  # type: ignore[arg-type]

    await refused(InvalidInput, "location", location="x.tar")
    await refused(InvalidInput, "location", location="/a/../etc/x")
    await refused(InvalidInput, "timeout", timeout=-1)
    created = await fakes.create(front, pod, fakes.container_config("other"))
    await refused(FailedPrecondition, "not running", container=created)
    front.config = replace(front.config, runtime=replace(front.config.runtime, checkpoint="none"))
    await refused(FailedPrecondition, "not allowed")
    assert host.count("dump") == 0


async def test_what_an_earlier_front_left_frozen_runs_on(front: Front, host: Host, running: str) -> None:
    fact = replace(host.containers[running], frozen=True)
    await checkpoint.thaw_forgotten(front, runtime.Facts(pods=(), containers=(fact,)))
    assert host.count("thaw") == 1
    host.hold["write_diff"] = asyncio.Event()
    under_way = asyncio.ensure_future(ask(front, running))
    while "write_diff" not in host.calls:
        await asyncio.sleep(0)
    await checkpoint.thaw_forgotten(front, runtime.Facts(pods=(), containers=(fact,)))
    assert host.count("thaw") == 1  # this one is its own
    host.hold["write_diff"].set()
    await under_way
