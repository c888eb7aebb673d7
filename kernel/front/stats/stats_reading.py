"""Keeps the statistics in memory fresh: while somebody asks, the runtime reads on; otherwise nothing runs.

Lists are answered from memory: they wait only where memory has nothing of a pod or container, or where nobody had
asked for a while, and never longer than `_LIST_SECONDS`, nor for a worker that failed or hangs already. Sizes of
writable layers are found by storage one after the other in the background, at most once a minute each.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable
from contextlib import suppress

from kernel.contracts import runtime, storage
from kernel.contracts.stats import StatsRequest
from kernel.errors import CrispError
from kernel.front.context import Front
from kernel.front.memory.stats_items import active
from kernel.front.memory.stats_memory import LayerUsage
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, SandboxId

_LOG = logging.getLogger(__name__)
_LIST_SECONDS = 1.0
_ONE_SECONDS = 0.5
"""How long a question about one pod or container waits for a new reading before the last one is the answer."""
_DETAIL_SECONDS = 5.0
_FRESH_SECONDS = 1.0
_LAYER_REST = 20
"""Measuring layers rests this many times as long as it works."""
_KEEP = ("watch stats",)
_WHOLE = ("stats",)
_DETAIL = ("stats detail",)
_LAYERS = ("stats layers",)


async def before_list(front: Front, wanted: Iterable[SandboxId]) -> None:
    """Have something in memory of each of these pods and their containers, if that can be had soon."""
    memory, now = front.stats, time.monotonic()
    asked(front)
    if memory.old(now):
        _begin(front, _WHOLE, _read(front, whole=True))
        await _wait(front, _WHOLE, _LIST_SECONDS)
        return
    missing = tuple(sorted(one for one in wanted if _unknown(front, one)))
    if missing:
        key = ("stats", *missing)
        _begin(front, key, _read(front, missing))
        await _wait(front, key, _LIST_SECONDS)


async def before_one(front: Front, sandbox: SandboxId, container: ContainerId | None = None) -> None:
    """Have a reading of one pod that is about a second old at most, if that can be had soon."""
    now = time.monotonic()
    waits: list[tuple[str, ...]] = []
    if now - front.stats.read.get(sandbox, float("-inf")) > _FRESH_SECONDS or _unknown(front, sandbox):
        waits.append(("stats", sandbox))
        _begin(front, waits[0], _read(front, (sandbox,)))
    if container is not None and container not in front.stats.layers:
        waits.append(("stats layer", container))
        _begin(front, waits[-1], _measure(front, container))
    await asyncio.gather(*(_wait(front, key, _ONE_SECONDS) for key in waits))


async def before_metrics(front: Front) -> None:
    """Have a reading with detail that is about a second old at most, if that can be had in a few seconds."""
    measure_layers(front)
    if time.monotonic() - front.stats.detail_at > _FRESH_SECONDS:
        _begin(front, _DETAIL, _read(front, detail=True, whole=True))
        await _wait(front, _DETAIL, _DETAIL_SECONDS)


def asked(front: Front) -> None:
    """Somebody looks: go on reading for a while."""
    memory = front.stats
    memory.asked_at = time.monotonic()
    memory.woken.set()
    if not front.ends.running(_KEEP):
        memory.failing = False  # what failed before the pause says nothing of now
        front.ends.begin(_KEEP, _keep(front), _KEEP[0])
    measure_layers(front)


def measure_layers(front: Front) -> None:
    """Measure the writable layers whose sizes have become old, beside everything else."""
    if not front.ends.running(_LAYERS) and front.stats.layers_due(_layers(front), time.monotonic()):
        front.ends.begin(_LAYERS, _measure_all(front), _LAYERS[0])


async def _keep(front: Front) -> None:
    """Read at the memory's pace until nobody has asked for a while."""
    memory = front.stats
    while (pause := memory.pause(time.monotonic())) is not None:
        memory.woken.clear()
        if pause > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await memory.woken.wait()
            continue  # a question may have come, and shortened the pause
        _begin(front, _WHOLE, _read(front, whole=True))
        await front.ends.wait(_WHOLE)


async def _read(
    front: Front, sandboxes: tuple[SandboxId, ...] = (), *, detail: bool = False, whole: bool = False
) -> None:
    memory, begun = front.stats, time.monotonic()
    request = StatsRequest(sandboxes=sandboxes, detail=detail)
    try:
        found = await front.runtime.call(runtime.STATS, request, deadline=Deadline.after(runtime.STATS.deadline))
    except CrispError as error:
        memory.failing = True
        _LOG.warning("statistics stay as they were: %s", error)
        return
    finally:
        if whole and not detail:
            memory.tried_at = time.monotonic()
            memory.cost = memory.tried_at - begun
    memory.failing = False
    memory.take(found, time.monotonic(), whole=whole, since=_beginnings(front))
    for sandbox in sandboxes:
        named = {sandbox, *(one.id for one in front.replica.containers_of(sandbox))}
        memory.absent |= named - memory.pods.keys() - memory.containers.keys()


def _beginnings(front: Front) -> dict[str, int]:
    return {
        **{record.id: record.created_at for record in front.replica.sandboxes.values()},
        **{record.id: record.started_at for record in front.replica.containers.values()},
    }


def _unknown(front: Front, sandbox: SandboxId) -> bool:
    """Whether nothing was read yet of a pod or of one of its containers."""
    memory = front.stats
    if sandbox not in memory.pods:
        return sandbox not in memory.absent
    return any(
        active(record) and record.id not in memory.containers and record.id not in memory.absent
        for record in front.replica.containers_of(sandbox)
    )


async def _measure_all(front: Front) -> None:
    while due := front.stats.layers_due(_layers(front), time.monotonic()):
        begun = time.monotonic()
        await _measure(front, due[0])
        await asyncio.sleep((time.monotonic() - begun) * _LAYER_REST)  # not a wait: disk and CPU are others' too
    for gone in front.stats.layers.keys() - front.replica.containers.keys():
        del front.stats.layers[gone]


async def _measure(front: Front, container: ContainerId) -> None:
    usage: storage.Usage | None = None
    try:
        usage = await front.storage.call(storage.USAGE, storage.ContainerRequest(container=container))
    except CrispError as error:
        _LOG.info("container %s: its writable layer is not measured: %s", container, error)
    known = front.stats.layers.get(container)
    if usage is not None or known is None or known.usage is None:
        known = LayerUsage(usage, time.time_ns(), time.monotonic())
    else:
        known = LayerUsage(known.usage, known.at, time.monotonic())
    front.stats.layers[container] = known


def _layers(front: Front) -> list[ContainerId]:
    return [record.id for record in front.replica.containers.values() if active(record)]


def _begin(front: Front, key: tuple[str, ...], reading: Coroutine[object, object, None]) -> None:
    """Begin a reading, unless it is under way."""
    if front.ends.running(key):
        reading.close()
        return
    front.stats.begun[key] = time.monotonic()
    task = front.ends.begin(key, reading, key[0])
    task.add_done_callback(lambda _: front.stats.begun.pop(key, None))


async def _wait(front: Front, key: tuple[str, ...], seconds: float) -> None:
    """Wait for a reading, but not for one that takes long already, nor after one that failed."""
    left = front.stats.begun.get(key, 0.0) + seconds - time.monotonic()
    if left > 0 and not front.stats.failing and front.ends.running(key):
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await front.ends.wait(key)
