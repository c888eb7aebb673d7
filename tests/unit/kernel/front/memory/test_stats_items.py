"""Serialised statistics are what protobuf would write, and are made once."""

from __future__ import annotations

from kernel.contracts.stats import CgroupUsage, ContainerUsage, PodUsage, Stats
from kernel.contracts.storage import Usage
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.context import Front
from kernel.front.memory.stats_items import Kept
from kernel.front.memory.stats_memory import LayerUsage
from kernel.ids import ContainerId, SandboxId
from tests.harness.fakes import pod_workers as fakes


def take(front: Front, pod: str, container: str, cpu: int) -> None:
    usage = CgroupUsage(at=9, cpu=cpu)
    inside = ContainerUsage(container_id=ContainerId(container), usage=usage, processes=1)
    reading = PodUsage(sandbox_id=SandboxId(pod), usage=usage, processes=1, containers=(inside,))
    front.stats.take(Stats(pods=(reading,)), 1.0, whole=True, since={})


async def test_a_pod_contains_its_containers(front: Front, pod: str) -> None:
    name = await fakes.create(front, pod)
    await fakes.start(front, name)
    take(front, pod, name, 7)
    front.stats.layers[ContainerId(name)] = LayerUsage(Usage(bytes=4096, inodes=2), 5, 0.0)
    record, members = front.replica.sandbox(pod), front.replica.containers_of(SandboxId(pod))
    found = cri.PodSandboxStats.FromString(front.stats_items.pod(record, members, front.stats))
    assert (found.attributes.id, found.attributes.metadata.name) == (pod, "web")
    assert found.attributes.labels == {"app": "web"}
    assert found.attributes.annotations == {"note": "a\nb"}
    assert found.linux.cpu.usage_core_nano_seconds.value == 7
    (inside,) = found.linux.containers
    assert (inside.attributes.id, inside.attributes.metadata.name) == (name, "main")
    assert (inside.cpu.usage_core_nano_seconds.value, inside.writable_layer.used_bytes.value) == (7, 4096)
    take(front, pod, name, 8)
    found = cri.PodSandboxStats.FromString(front.stats_items.pod(record, members, front.stats))
    assert found.linux.containers[0].cpu.usage_core_nano_seconds.value == 8


async def test_what_has_exited_has_no_numbers(front: Front, host: fakes.Host, pod: str) -> None:
    name = await fakes.create(front, pod)
    await fakes.start(front, name)
    take(front, pod, name, 7)
    await fakes.stop_container(front, name)
    record = front.replica.container(name)
    found = cri.ContainerStats.FromString(front.stats_items.container(record, front.stats))
    assert found.attributes.id == name
    assert not found.HasField("cpu")


def test_the_same_parts_make_the_same_once() -> None:
    kept: Kept[list[int]] = Kept()
    first, second = object(), object()
    made = kept.of("a", (first,), lambda: [1])
    assert kept.of("a", (first,), lambda: [2]) is made
    assert kept.of("a", (second,), lambda: [3]) == [3]
    assert kept.of("b", (second,), lambda: [4]) == [4]
