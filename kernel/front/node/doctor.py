"""Finds what the host holds without an owner (orphans), and removes it: for `crisp doctor` and the front's start.

Orphans are found by comparing the workers' inventories with the records. The inventories are taken first: whatever is
made meanwhile has its intent among the records by then. Removal calls the same idempotent methods as the flows do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from kernel.contracts import image, network, runtime, storage
from kernel.contracts.definition import Nothing
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
    """The result of an examination."""

    orphans: tuple[OrphanFound, ...]
    silent: dict[str, str]
    """Workers that did not answer, each with the reason: things that they hold are not among the orphans."""


async def examine(front: Front, deadline: Deadline) -> Examined:
    """Request every worker's inventory, and return the things that belong to no record."""
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
        # While an archive is loaded its blobs belong to no image yet.
        blobs=frozenset(blobs.blobs) if blobs and not front.images.loads else None,
    )
    return Examined(orphans=plan_repairs(front.replica.snapshot(), evidence).orphans, silent=silent)


def certain(front: Front, orphan: OrphanFound) -> bool:
    """Return whether an orphan may be removed now: a pull or a load may use a blob that had no owner before."""
    if orphan.kind is not Orphan.BLOB:
        return orphan.sweep
    pulling = any(intent.kind is IntentKind.PULL_IMAGE for intent in front.replica.intents.values())
    return orphan.sweep and not pulling and not front.images.loads


async def mend(front: Front, orphan: OrphanFound, deadline: Deadline) -> None:
    """Remove one orphan, unless it is a layer that a pull has come to need since it was found."""
    if orphan.kind is Orphan.LAYER:
        await layer_release.sweep_layer(front, DiffId(digest(orphan.id)), deadline)
    else:
        await sweep(front, orphan, deadline)


async def sweep(front: Front, orphan: OrphanFound, deadline: Deadline) -> None:
    """Remove one orphan. An orphan that does not exist any more is success."""
    match orphan.kind:
        case Orphan.CONTAINER:
            gone = runtime.ContainerRequest(container_id=container_id(orphan.id))
            await front.runtime.call(runtime.REMOVE, gone, deadline=deadline)
        case Orphan.POD:
            pod = runtime.SandboxRequest(sandbox_id=sandbox_id(orphan.id))
            await front.runtime.call(runtime.REMOVE_POD, pod, deadline=deadline)
        case Orphan.NETWORK:
            attached = network.SandboxRequest(sandbox_id=sandbox_id(orphan.id))
            await front.network.call(network.DETACH, attached, deadline=deadline)
        case Orphan.ROOTFS:
            rootfs = storage.ContainerRequest(container_id=container_id(orphan.id))
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
