"""CheckpointContainer: three steps, with the container frozen during the first two.

    runtime.dump → storage.write_diff → runtime.seal, which lets it run on and writes the archive

If a step fails, the container runs on: the front thaws it, and so do the next front and the next runtime worker.
"""

from __future__ import annotations

import logging

from kernel.contracts import runtime, storage
from kernel.contracts.records import Container
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import CrispError, FailedPrecondition, Unavailable
from kernel.front import flows
from kernel.front.context import Call, Front
from kernel.front.requests import fields, states
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, short

_LOG = logging.getLogger(__name__)
_ATTEMPTS = 3
"""Attempts in all. A worker's death costs one, because the container ran on and its dump is stale."""


async def checkpoint_container(
    front: Front, request: cri.CheckpointContainerRequest, call: Call
) -> cri.CheckpointContainerResponse:
    """Serve CheckpointContainer. A repeat joins the checkpoint under way to the same place."""
    location = fields.path("location", request.location)
    seconds = fields.integer("timeout", request.timeout, 0, (1 << 63) - 1)
    record = states.running(front.replica.container(request.container_id))
    if front.config.runtime.checkpoint == "none":
        raise FailedPrecondition("checkpoints are not allowed on this node", hint="runtime.checkpoint says so")
    deadline = call.deadline.earlier(min(seconds, 1 << 30)) if seconds else call.deadline
    await flows.join(
        front, ("checkpoint", record.id, location), lambda: _checkpoint(front, record.id, location, deadline)
    )
    return cri.CheckpointContainerResponse()


async def thaw_forgotten(front: Front, facts: runtime.Facts) -> None:
    """Thaw the containers that an earlier front has left frozen."""
    for fact in facts.containers:
        if fact.frozen and not _under_way(front, fact.container_id):
            _LOG.warning("container %s: it was left frozen by a checkpoint that was cut off", short(fact.container_id))
            await _thaw(front, fact.container_id)


def _under_way(front: Front, container_id: ContainerId) -> bool:
    return front.ends.any_running(lambda key: key[:2] == ("checkpoint", container_id))


async def _checkpoint(front: Front, container_id: ContainerId, location: str, deadline: Deadline) -> None:
    for left in reversed(range(_ATTEMPTS)):
        record = states.running(front.replica.container(container_id))
        try:
            await _attempt(front, record, location, deadline)
        except Unavailable as error:
            if not left or deadline.remaining() <= 0:
                raise
            _LOG.warning("container %s: its checkpoint begins anew: %s", short(container_id), error)
        else:
            return


async def _attempt(front: Front, record: Container, location: str, deadline: Deadline) -> None:
    image = front.replica.images.get(record.image_id)
    seal = runtime.SealRequest(
        container_id=record.id,
        location=location,
        name=record.name,
        image_id=record.image_id,
        image_name=record.image_name,
        image_tag=image.tags[0] if image and image.tags else "",
        created_at=record.created_at,
        restored=bool(record.restored_from),
    )
    try:
        dump = runtime.DumpRequest(container_id=record.id, location=location)
        await front.runtime.call(runtime.DUMP, dump, deadline=deadline)
        changed = storage.ContainerRequest(container_id=record.id)
        await front.storage.call(storage.WRITE_DIFF, changed, deadline=deadline)
        await front.runtime.call(runtime.SEAL, seal, deadline=deadline)
    except CrispError:
        await _thaw(front, record.id)
        raise


async def _thaw(front: Front, container_id: ContainerId) -> None:
    request = runtime.ContainerRequest(container_id=container_id)
    try:
        await front.runtime.call(runtime.THAW, request, deadline=Deadline.after(flows.UNDO_SECONDS))
    except CrispError as error:
        _LOG.warning(
            "container %s: it may be frozen until the runtime worker's next start: %s", short(container_id), error
        )
