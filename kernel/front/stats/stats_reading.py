"""Keeps the statistics in memory fresh. The runtime worker reads only while statistics are requested.

Lists are answered from memory. A list waits only if memory has nothing about a pod or container, or if there was no
request for a while; it waits for `_LIST_SECONDS` at most, and not at all for a worker that failed or hangs already.
Sizes of writable layers are measured by storage one after the other in the background, each at most once a minute.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial

from kernel.contracts import runtime, storage
from kernel.contracts.stats import StatsRequest
from kernel.errors import CrispError
from kernel.front.context import Front
from kernel.front.memory.stats_items import active
from kernel.front.memory.stats_memory import LayerUsage
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, SandboxId, short

_LOG = logging.getLogger(__name__)
_LIST_SECONDS = 1.0
"""Seconds that a list waits for readings that memory does not have."""
_ONE_SECONDS = 0.5
"""Seconds that a request about one pod or container waits for a new reading before it is answered with the last one."""
_DETAIL_SECONDS = 5.0
"""Seconds that metrics wait for a reading with detail."""
_FRESH_SECONDS = 1.0
"""The age in seconds up to which a reading is not repeated for a request."""
_LAYER_REST = 20
"""Measuring layers pauses this many times as long as it works."""
_KEEP = ("watch stats",)
_WHOLE = ("stats",)
_DETAIL = ("stats detail",)
_LAYERS = ("stats layers",)
"""The keys of `Front.ends` under which readings run: the loop, a reading of all pods, one with detail, of layers."""


async def before_list(front: Front, wanted: Iterable[SandboxId]) -> None:
    """Wait until memory has a reading of each of these pods and their containers, if that comes soon."""
    memory, now = front.stats, time.monotonic()
    _requested(front)
    if memory.old(now):
        _begin(front, _WHOLE, lambda: _read(front, whole=True))
        await _wait(front, _WHOLE, _LIST_SECONDS)
        return
    missing = tuple(sorted(one for one in wanted if _unknown(front, one)))
    if missing:
        key = ("stats", *missing)
        _begin(front, key, lambda: _read(front, missing))
        await _wait(front, key, _LIST_SECONDS)


async def before_one(front: Front, sandbox_id: SandboxId, container_id: ContainerId | None = None) -> None:
    """Wait until memory has a reading of one pod that is about a second old at most, if that comes soon.

    With `container_id`, wait also until the container's writable layer has been measured once.
    """
    now = time.monotonic()
    waits: list[tuple[str, ...]] = []
    if now - front.stats.read.get(sandbox_id, float("-inf")) > _FRESH_SECONDS or _unknown(front, sandbox_id):
        waits.append(("stats", sandbox_id))
        _begin(front, waits[0], lambda: _read(front, (sandbox_id,)))
    if container_id is not None and container_id not in front.stats.layers:
        waits.append(("stats layer", container_id))
        _begin(front, waits[-1], partial(_measure, front, container_id))
    await asyncio.gather(*(_wait(front, key, _ONE_SECONDS) for key in waits))


async def before_metrics(front: Front) -> None:
    """Wait until memory has readings with detail that are about a second old at most, if they come in a few seconds."""
    _measure_layers(front)
    if time.monotonic() - front.stats.detail_at > _FRESH_SECONDS:
        _begin(front, _DETAIL, lambda: _read(front, detail=True, whole=True))
        await _wait(front, _DETAIL, _DETAIL_SECONDS)


def _requested(front: Front) -> None:
    """Record a request: readings go on for a while."""
    memory = front.stats
    memory.asked_at = time.monotonic()
    memory.woken.set()
    if front.ends.ensure(_KEEP, lambda: _keep(front), _KEEP[0]):
        memory.failing = False  # a failure before the pause is no reason to expect another
    _measure_layers(front)


def _measure_layers(front: Front) -> None:
    """Begin to measure the writable layers whose sizes have become old, beside everything else."""
    if not front.ends.running(_LAYERS) and front.stats.layers_due(_with_process(front), time.monotonic()):
        front.ends.ensure(_LAYERS, lambda: _measure_all(front), _LAYERS[0])


async def _keep(front: Front) -> None:
    """Read at the memory's pace until there has been no request for a while."""
    memory = front.stats
    while (pause := memory.pause(time.monotonic())) is not None:
        memory.woken.clear()
        if pause > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await memory.woken.wait()
            continue  # a request may have come, and shortened the pause
        _begin(front, _WHOLE, lambda: _read(front, whole=True))
        await front.ends.wait(_WHOLE)


async def _read(
    front: Front, sandbox_ids: tuple[SandboxId, ...] = (), *, detail: bool = False, whole: bool = False
) -> None:
    """Have the runtime read these pods, or all if `whole`, and keep the readings. A failure is logged and kept."""
    memory, begun = front.stats, time.monotonic()
    request = StatsRequest(sandboxes=sandbox_ids, detail=detail)
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
    for sandbox_id in sandbox_ids:
        named = {sandbox_id, *(one.id for one in front.replica.containers_of(sandbox_id))}
        memory.absent |= named - memory.pods.keys() - memory.containers.keys()


def _beginnings(front: Front) -> dict[str, int]:
    """Return when each pod was made and each container started, by id, in nanoseconds since 1970."""
    return {
        **{record.id: record.created_at for record in front.replica.sandboxes.values()},
        **{record.id: record.started_at for record in front.replica.containers.values()},
    }


def _unknown(front: Front, sandbox_id: SandboxId) -> bool:
    """Return whether a pod or one of its containers was not read yet; one that the runtime does not have is known."""
    memory = front.stats
    if sandbox_id not in memory.pods:
        return sandbox_id not in memory.absent
    return any(
        active(record) and record.id not in memory.containers and record.id not in memory.absent
        for record in front.replica.containers_of(sandbox_id)
    )


async def _measure_all(front: Front) -> None:
    """Measure the writable layers that are due, one after the other, and forget those of removed containers."""
    while due := front.stats.layers_due(_with_process(front), time.monotonic()):
        begun = time.monotonic()
        await _measure(front, due[0])
        await asyncio.sleep((time.monotonic() - begun) * _LAYER_REST)  # not a wait: leaves disk and CPU to others
    for gone in front.stats.layers.keys() - front.replica.containers.keys():
        del front.stats.layers[gone]


async def _measure(front: Front, container_id: ContainerId) -> None:
    """Have storage measure a container's writable layer; after a failure the last size stays."""
    usage: storage.Usage | None = None
    try:
        usage = await front.storage.call(storage.USAGE, storage.ContainerRequest(container_id=container_id))
    except CrispError as error:
        _LOG.info("container %s: its writable layer is not measured: %s", short(container_id), error)
    known = front.stats.layers.get(container_id)
    if usage is not None or known is None or known.usage is None:
        known = LayerUsage(usage, time.time_ns(), time.monotonic())
    else:
        known = LayerUsage(known.usage, known.at, time.monotonic())
    front.stats.layers[container_id] = known


def _with_process(front: Front) -> list[ContainerId]:
    return [record.id for record in front.replica.containers.values() if active(record)]


def _begin(front: Front, key: tuple[str, ...], reading: Callable[[], Coroutine[object, object, None]]) -> None:
    """Begin a reading, unless it is under way."""

    async def timed() -> None:
        try:
            await reading()
        finally:
            del front.stats.begun[key]

    def attempt() -> Coroutine[object, object, None]:
        front.stats.begun[key] = time.monotonic()
        return timed()

    front.ends.ensure(key, attempt, key[0])


async def _wait(front: Front, key: tuple[str, ...], seconds: float) -> None:
    """Wait for a reading until `seconds` after its beginning, but not at all if the last one failed."""
    left = front.stats.begun.get(key, 0.0) + seconds - time.monotonic()
    if left > 0 and not front.stats.failing and front.ends.running(key):
        try:
            async with asyncio.timeout(left) as limit:
                await front.ends.wait(key)
        except TimeoutError:
            if not limit.expired():  # the reading's own error
                raise
