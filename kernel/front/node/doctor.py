"""What the host holds without an owner, for `crisp doctor`: the workers' inventories against the records.

Inventories are taken before the records are looked at: what is made meanwhile has its intent by then. Mending calls
the same idempotent methods as the flows do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from kernel.contracts import image, network, runtime, storage
from kernel.contracts.contract import Nothing
from kernel.contracts.records import IntentKind
from kernel.errors import CrispError
from kernel.front import facts
from kernel.front.context import Front
from kernel.front.images import layer_release
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

    running, in_runtime, in_network, in_storage, blobs = await asyncio.gather(
        ask("runtime", facts.ask(front, deadline.earlier(runtime.INVENTORY.deadline))),
        ask("runtime", front.runtime.call(runtime.INVENTORY, Nothing(), deadline=deadline)),
        ask("network", front.network.call(network.INVENTORY, Nothing(), deadline=deadline)),
        ask("storage", front.storage.call(storage.INVENTORY, Nothing(), deadline=deadline)),
        ask("image", front.image.call(image.BLOBS, Nothing(), deadline=deadline)),
    )
    evidence = Evidence(
        boot_id=front.boot_id,
        now=time.time_ns(),
        facts=running,
        storage=in_storage,
        network=in_network,
        runtime=in_runtime,
        # While an archive is loaded its blobs are nobody's yet.
        blobs=frozenset(blobs.blobs) if blobs and not front.images.loads else None,
    )
    return Examined(orphans=plan_repairs(front.replica.snapshot(), evidence).orphans, silent=silent)


def certain(front: Front, orphan: OrphanFound) -> bool:
    """Whether it may be taken away: a blob may have become a pull's or a load's since it was found."""
    if orphan.kind is not Orphan.BLOB:
        return orphan.sweep
    pulling = any(intent.kind is IntentKind.PULL_IMAGE for intent in front.replica.intents.values())
    return orphan.sweep and not pulling and not front.images.loads


async def mend(front: Front, orphan: OrphanFound, deadline: Deadline) -> None:
    """Take away one thing, unless a pull has come to count on it since it was found."""
    if orphan.kind is Orphan.LAYER:
        await layer_release.sweep_layer(front, DiffId(digest(orphan.id)), deadline)
    else:
        await sweep(front, orphan, deadline)


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
