"""When the runtime is asked, how long a list waits for it, and what is answered where it fails or hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from kernel.contracts.definition import Message
from kernel.contracts.stats import CgroupUsage, ContainerUsage, Detail, PodUsage, Stats, StatsRequest
from kernel.contracts.storage import ContainerRequest, Usage
from kernel.cri.generated import cri_pb2 as cri
from kernel.cri.generated import cri_pb2_grpc as rpc
from kernel.errors import DeadlineExceeded, NotFound
from kernel.front.context import Front
from kernel.front.stats import metrics, stats_reading, stats_rpcs
from kernel.ids import ContainerId, SandboxId
from tests.harness.fakes import pod_workers as fakes


@pytest.fixture(autouse=True)
def readings(host: fakes.Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake host uses a little more CPU each time it is asked."""
    answer: Callable[[str, Message], Message] = host._answer

    def read(pod: str, *, detail: bool) -> PodUsage:
        usage = CgroupUsage(at=time.time_ns(), cpu=host.count("stats"), working_set=4096)
        inside = tuple(
            ContainerUsage(
                container_id=ContainerId(name), usage=usage, processes=1, detail=Detail() if detail else None
            )
            for name, fact in host.containers.items()
            if fact.sandbox_id == pod and fact.state != "exited"
        )
        return PodUsage(sandbox_id=SandboxId(pod), usage=usage, processes=len(inside), containers=inside)

    def answered(name: str, request: Message) -> Message:
        if isinstance(request, StatsRequest):
            pods = sorted(host.pods.intersection(request.sandboxes) if request.sandboxes else host.pods)
            return Stats(pods=tuple(read(pod, detail=request.detail) for pod in pods))
        if name == "usage" and isinstance(request, ContainerRequest):
            return Usage(bytes=8192, inodes=3)
        return answer(name, request)

    monkeypatch.setattr(host, "_answer", answered)


async def listed(front: Front) -> list[cri.ContainerStats]:
    found = await stats_rpcs.list_container_stats(
        front, cri.ListContainerStatsRequest(), fakes.a_call("ListContainerStats")
    )
    return list(cri.ListContainerStatsResponse.FromString(found).stats)


async def a_container(front: Front, pod: str) -> str:
    name = await fakes.create(front, pod, fakes.container_config(f"c{len(front.replica.containers)}"))
    await fakes.start(front, name)
    return name


async def test_nothing_is_read_while_nobody_asks(front: Front, host: fakes.Host, pod: str) -> None:
    await a_container(front, pod)
    assert host.count("stats") == 0


async def test_the_first_list_waits_for_a_reading_and_the_next_do_not(front: Front, host: fakes.Host, pod: str) -> None:
    name = await a_container(front, pod)
    (first,) = await listed(front)
    assert (first.attributes.id, first.memory.working_set_bytes.value) == (name, 4096)
    host.hold["stats"] = asyncio.Event()
    assert [await listed(front) for _ in range(5)] == [[first]] * 5


async def test_a_new_container_is_read_before_it_is_listed(front: Front, host: fakes.Host, pod: str) -> None:
    await a_container(front, pod)
    await listed(front)
    name = await a_container(front, pod)
    found = {one.attributes.id: one for one in await listed(front)}
    assert found[name].HasField("cpu")


async def test_a_list_waits_once_for_a_worker_that_hangs(
    front: Front, host: fakes.Host, pod: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats_reading, "_LIST_SECONDS", 0.05)
    name = await a_container(front, pod)
    host.hold["stats"] = asyncio.Event()
    for _ in range(3):
        (found,) = await listed(front)
        assert found.attributes.id == name
        assert not found.HasField("cpu")
    host.hold["stats"].set()


async def test_a_worker_that_fails_is_not_waited_for_again(front: Front, host: fakes.Host, pod: str) -> None:
    await a_container(front, pod)
    host.fail["stats"] = [DeadlineExceeded("late")] * 9
    (found,) = await listed(front)
    assert not found.HasField("cpu")
    assert front.stats.failing
    host.fail["stats"].clear()
    front.stats.woken.set()
    async with asyncio.timeout(5):
        while front.stats.failing:
            await asyncio.sleep(0.01)
    (found,) = await listed(front)
    assert found.HasField("cpu")


async def test_readings_go_on_after_a_question(front: Front, host: fakes.Host, pod: str) -> None:
    await a_container(front, pod)
    await listed(front)
    async with asyncio.timeout(5):
        while host.count("stats") < 2:
            await asyncio.sleep(0.01)
    front.stats.asked_at = float("-inf")  # as if long ago
    front.stats.woken.set()
    async with asyncio.timeout(5):
        await front.ends.wait(("watch stats",))


async def test_one_container_is_read_anew_and_its_layer_measured(front: Front, host: fakes.Host, pod: str) -> None:
    name = await a_container(front, pod)
    request = cri.ContainerStatsRequest(container_id=name)
    found = cri.ContainerStatsResponse.FromString(await stats_rpcs.container_stats(front, request, fakes.a_call()))
    assert found.stats.writable_layer.used_bytes.value == 8192
    front.stats.read.clear()
    again = cri.ContainerStatsResponse.FromString(await stats_rpcs.container_stats(front, request, fakes.a_call()))
    assert again.stats.cpu.usage_core_nano_seconds.value > found.stats.cpu.usage_core_nano_seconds.value
    host.fail["stats"] = [NotFound("gone")]
    front.stats.read.clear()
    last = cri.ContainerStatsResponse.FromString(await stats_rpcs.container_stats(front, request, fakes.a_call()))
    assert last == again


async def test_an_exited_container_is_not_listed_and_has_no_numbers(front: Front, host: fakes.Host, pod: str) -> None:
    name = await a_container(front, pod)
    await listed(front)
    await fakes.stop_container(front, name)
    assert await listed(front) == []
    asked = cri.ContainerStatsRequest(container_id=name)
    found = cri.ContainerStatsResponse.FromString(await stats_rpcs.container_stats(front, asked, fakes.a_call()))
    assert found.stats.attributes.id == name
    assert not found.stats.HasField("cpu")


async def test_pods_and_filters_over_the_socket(front: Front, runtime: rpc.RuntimeServiceAsyncStub, pod: str) -> None:
    name = await a_container(front, pod)
    other = await fakes.run(front, fakes.pod_config("db"))

    async def pods(**given: object) -> list[str]:
        request = cri.ListPodSandboxStatsRequest(filter=cri.PodSandboxStatsFilter(**given))  # type: ignore[arg-type]
        return [one.attributes.id for one in (await runtime.ListPodSandboxStats(request)).stats]

    async def containers(**given: object) -> list[str]:
        request = cri.ListContainerStatsRequest(filter=cri.ContainerStatsFilter(**given))  # type: ignore[arg-type]
        parts = runtime.StreamContainerStats(cri.StreamContainerStatsRequest(filter=request.filter))
        streamed = [one.attributes.id async for part in parts for one in part.container_stats]
        found = [one.attributes.id for one in (await runtime.ListContainerStats(request)).stats]
        assert found == streamed
        return found

    assert await pods() == [pod, other]
    assert await pods(id=pod[:13]) == [pod]
    assert await pods(label_selector={"app": "db"}) == [other]
    assert await containers() == [name]
    assert await containers(pod_sandbox_id=pod) == await containers(id=name[:13]) == [name]
    assert await containers(pod_sandbox_id=other) == await containers(label_selector={"name": "x"}) == []
    one = await runtime.PodSandboxStats(cri.PodSandboxStatsRequest(pod_sandbox_id=pod))
    assert [inside.attributes.id for inside in one.stats.linux.containers] == [name]
    assert one.stats.linux.process.process_count.value == 1
    await fakes.stop_pod(front, pod)
    assert await pods() == [other]
    stopped = await runtime.PodSandboxStats(cri.PodSandboxStatsRequest(pod_sandbox_id=pod))
    assert stopped.stats.attributes.metadata.name == "web"
    assert not stopped.stats.linux.HasField("cpu")


async def test_metrics_are_read_with_detail(front: Front, host: fakes.Host, pod: str) -> None:
    name = await a_container(front, pod)
    request = cri.ListPodSandboxMetricsRequest()
    reply = await metrics.list_pod_sandbox_metrics(front, request, fakes.a_call("ListPodSandboxMetrics"))
    (found,) = cri.ListPodSandboxMetricsResponse.FromString(reply).pod_metrics
    assert found.pod_sandbox_id == pod
    assert [one.container_id for one in found.container_metrics] == [name]
    assert "container_memory_working_set_bytes" in {one.name for one in found.container_metrics[0].metrics}
    host.fail["stats"] = [DeadlineExceeded("late")]
    front.stats.detail_at = float("-inf")
    assert await metrics.list_pod_sandbox_metrics(front, request, fakes.a_call()) == reply, "the last reading"
