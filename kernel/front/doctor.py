"""What the host holds without an owner, for `crisp doctor`: the workers' inventories against the records.

Inventories are taken before the records are looked at: what is made meanwhile has its intent by then. Mending calls
the same idempotent methods as the flows do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from kernel.contracts import image, network, runtime, storage
from kernel.contracts.contract import Nothing
from kernel.contracts.supervisor import Snapshot
from kernel.errors import CrispError, Unavailable
from kernel.front.context import Front
from kernel.host.aio import Deadline
from kernel.ids import DiffId, container_id, digest, sandbox_id
from kernel.state.recover import Evidence, Orphan, OrphanFound, plan_repairs

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What was found, and which workers could not be asked, each with the reason."""

    orphans: tuple[OrphanFound, ...]
    silent: dict[str, str]


async def examine(front: Front, deadline: Deadline) -> Examined:
    """Ask every worker what it holds, and find what belongs to no record."""
    silent: dict[str, str] = {}

    async def ask(worker: str, answer: Awaitable[_T]) -> _T | None:
        try:
            return await answer
        except CrispError as error:
            silent[worker] = str(error)
            return None

    facts, in_runtime, in_network, in_storage, blobs = await asyncio.gather(
        ask("runtime", _facts(front, deadline)),
        ask("runtime", front.runtime.call(runtime.INVENTORY, Nothing(), deadline=deadline)),
        ask("network", front.network.call(network.INVENTORY, Nothing(), deadline=deadline)),
        ask("storage", front.storage.call(storage.INVENTORY, Nothing(), deadline=deadline)),
        ask("image", front.image.call(image.BLOBS, Nothing(), deadline=deadline)),
    )
    evidence = Evidence(
        boot_id=front.boot_id,
        now=time.time_ns(),
        facts=facts,
        storage=in_storage,
        network=in_network,
        runtime=in_runtime,
        blobs=frozenset(blobs.blobs) if blobs else None,
    )
    return Examined(orphans=plan_repairs(snapshot(front), evidence).orphans, silent=silent)


def snapshot(front: Front) -> Snapshot:
    """All that is remembered, as it is now."""
    replica = front.replica
    return Snapshot(
        sandboxes=tuple(replica.sandboxes.values()),
        containers=tuple(replica.containers.values()),
        images=tuple(replica.images.values()),
        intents=tuple(replica.intents.values()),
        exits=tuple(replica.exits.values()),
        damaged=replica.damaged,
    )


async def sweep(front: Front, orphan: OrphanFound, deadline: Deadline) -> None:
    """Take away one thing without an owner; gone already is success."""
    match orphan.kind:
        case Orphan.CONTAINER:
            gone = runtime.ContainerRequest(container=container_id(orphan.id))
            await front.runtime.call(runtime.REMOVE, gone, deadline=deadline)
        case Orphan.POD:
            pod = runtime.SandboxRequest(sandbox=sandbox_id(orphan.id))
            await front.runtime.call(runtime.REMOVE_POD, pod, deadline=deadline)
        case Orphan.NETWORK:
            attached = network.SandboxRequest(sandbox=sandbox_id(orphan.id))
            await front.network.call(network.DETACH, attached, deadline=deadline)
        case Orphan.ROOTFS:
            rootfs = storage.ContainerRequest(container=container_id(orphan.id))
            await front.storage.call(storage.UNMOUNT, rootfs, deadline=deadline)
        case Orphan.CGROUP:
            await front.runtime.call(runtime.SWEEP, Nothing(), deadline=deadline)
        case Orphan.PARTIAL_LAYER:
            await front.storage.call(storage.SWEEP, Nothing(), deadline=deadline)
        case Orphan.LAYER:
            layer = storage.LayerRequest(diff_id=DiffId(digest(orphan.id)))
            await front.storage.call(storage.REMOVE_LAYER, layer, deadline=deadline)
        case Orphan.BLOB:
            await front.image.call(image.DROP, image.DropRequest(digests=(digest(orphan.id),)), deadline=deadline)


async def _facts(front: Front, deadline: Deadline) -> runtime.Facts:
    """The first message of a watch."""
    async with (
        deadline.earlier(runtime.INVENTORY.deadline).limit("asking the runtime worker what runs"),
        aclosing(front.runtime.watch(runtime.WATCH, Nothing())) as events,  # type: ignore[type-var]  # it is a generator
    ):
        async for event in events:
            if isinstance(event, runtime.Facts):
                return event
    raise Unavailable("the runtime worker did not say what runs")
