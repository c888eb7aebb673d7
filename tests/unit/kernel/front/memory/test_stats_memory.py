"""The pace of readings, what is kept and what is forgotten."""

from __future__ import annotations

from kernel.contracts.stats import CgroupUsage, ContainerUsage, Detail, FileSystem, PodUsage, Stats
from kernel.contracts.storage import Usage
from kernel.front.memory.stats_memory import LayerUsage, StatsMemory
from kernel.ids import ContainerId, SandboxId

SECOND = 1_000_000_000
POD, OTHER = SandboxId("a" * 64), SandboxId("c" * 64)
CONTAINER, SECOND_ONE = ContainerId("b" * 64), ContainerId("d" * 64)


def usage(at: float, cpu: float | None) -> CgroupUsage:
    return CgroupUsage(at=int(at * SECOND), cpu=None if cpu is None else int(cpu * SECOND))


def pod(sandbox: SandboxId, *containers: ContainerId, detail: Detail | None = None) -> PodUsage:
    inside = tuple(
        ContainerUsage(container_id=one, usage=usage(9, 1), processes=1, detail=detail) for one in containers
    )
    return PodUsage(sandbox_id=sandbox, usage=usage(9, 2), processes=len(inside), containers=inside)


def test_readings_follow_questions_and_end_with_them() -> None:
    memory = StatsMemory()
    assert memory.pause(100.0) is None, "nobody asked"
    memory.asked_at = 100.0
    assert memory.pause(100.0) == 0.0
    memory.tried_at = 100.1
    pause = memory.pause(100.1)
    assert pause is not None
    assert 0.5 < pause < 0.7, "who asks again a second later sees another reading"
    memory.tried_at = 101.0
    assert memory.pause(101.0) == 1.0
    assert memory.pause(131.0) is None


def test_readings_take_a_small_part_of_a_cpu() -> None:
    memory = StatsMemory(cost=0.03)
    assert memory.period == 3.0
    memory.cost = 0.001
    assert memory.period == 1.0
    memory.cost = 5.0
    assert memory.period == 10.0


def test_a_reading_of_all_forgets_what_is_gone() -> None:
    memory = StatsMemory()
    memory.take(Stats(pods=(pod(POD, CONTAINER), pod(OTHER, SECOND_ONE))), 5.0, whole=True, since={})
    assert not memory.old(6.0)
    memory.absent.add("x")
    memory.take(Stats(pods=(pod(POD),)), 6.0, whole=True, since={})
    assert memory.pods.keys() == memory.read.keys() == memory.rates.keys() == {POD}
    assert not memory.containers
    assert not memory.absent


def test_a_reading_of_one_keeps_the_others() -> None:
    memory = StatsMemory()
    memory.take(Stats(pods=(pod(POD, CONTAINER), pod(OTHER, SECOND_ONE))), 5.0, whole=True, since={})
    memory.take(Stats(pods=(pod(POD, CONTAINER),)), 9.0, whole=False, since={})
    assert memory.containers.keys() == {CONTAINER, SECOND_ONE}
    assert (memory.read[POD], memory.read[OTHER], memory.whole_at) == (9.0, 5.0, 5.0)


def test_detail_outlives_readings_without() -> None:
    memory, file_system = StatsMemory(), FileSystem(device="sda", bytes=1, inodes=1, inodes_free=1)
    detailed = Stats(pods=(pod(POD, CONTAINER, detail=Detail(threads=3)),), writable_layers=file_system)
    memory.take(detailed, 5.0, whole=True, since={})
    memory.take(Stats(pods=(pod(POD, CONTAINER),)), 6.0, whole=True, since={})
    found = memory.detailed[CONTAINER].detail
    assert found is not None
    assert found.threads == 3
    assert memory.file_system is file_system
    assert memory.detail_at == 5.0


def test_layers_never_measured_come_first_and_young_ones_not_at_all() -> None:
    names = [ContainerId(letter * 64) for letter in "abcd"]
    memory, size = StatsMemory(), Usage(bytes=1, inodes=1)
    memory.layers = {names[0]: LayerUsage(size, 0, 930.0), names[1]: LayerUsage(None, 0, 900.0),
                     names[2]: LayerUsage(size, 0, 990.0)}  # fmt: skip
    assert memory.layers_due(names, 1000.0) == [names[3], names[1], names[0]]
