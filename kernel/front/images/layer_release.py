"""Deletes layers and blobs that no image has and no pull needs.

Which layers may be deleted is decided from records and intents under the lock `LAYERS`, by this module alone. A pull
writes its intent and asks what storage has under the same lock, so a layer that it counts on is not deleted meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Iterable

from kernel.contracts import image, storage
from kernel.contracts.records import Intent
from kernel.contracts.supervisor import Commit
from kernel.errors import CrispError
from kernel.front.context import Front
from kernel.front.images import image_records
from kernel.host import aio
from kernel.host.aio import Deadline
from kernel.ids import DiffId, Digest

_LOG = logging.getLogger(__name__)
LAYERS = "layers"
"""The lock of everything that decides which layers are deleted or kept."""
UNDO_SECONDS = 120.0
"""Seconds that the deletion of a pull's or an image's layers may take."""
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 600.0
"""Seconds between two tries in the background, which double from the first to the longest."""


async def release(front: Front, intent: Intent, deadline: Deadline) -> None:
    """Delete an intent's layers that no image and no pull needs, then end it: a pull undone, or a removal finished."""
    async with front.locks.hold(LAYERS):
        replica = front.replica
        others = [other for other in replica.intents.values() if other.id != intent.id]
        for layer in image_records.ownerless(intent.layers, replica.images.values(), others):
            await front.storage.call(storage.REMOVE_LAYER, storage.LayerRequest(diff_id=layer), deadline=deadline)
        await replica.commit(Commit(end=(intent.id,)), deadline)


def release_later(front: Front, intent: Intent, after: float | None = None) -> None:
    """Release an intent's layers in the background: first after `after` seconds, then again until it succeeds.

    So nothing of a failed pull or removal stays until the next start.
    """

    async def attempt() -> bool:
        async with front.locks.hold(intent.id):
            if front.replica.intents.get(intent.id) is not intent:
                return True  # a new pull or removal has replaced it
            await release(front, intent, Deadline.after(UNDO_SECONDS))
            return True

    def retry() -> Coroutine[object, object, None]:
        first = _FIRST_PAUSE if after is None else after
        return aio.keep_trying(
            attempt, f"release of the layers of {intent.id}", first=first, longest=_LONGEST_PAUSE, at_once=False
        )

    # The key names this very intent: a later one of the same image has a loop of its own.
    front.ends.ensure(("release", intent.id, str(intent.begun_at)), retry, f"release {intent.id}")


async def sweep_layer(front: Front, layer_id: DiffId, deadline: Deadline) -> None:
    """Delete a layer, unless an image or a pull needs it by now."""
    async with front.locks.hold(LAYERS):
        replica = front.replica
        if image_records.ownerless((layer_id,), replica.images.values(), replica.intents.values()):
            await front.storage.call(storage.REMOVE_LAYER, storage.LayerRequest(diff_id=layer_id), deadline=deadline)


async def drop_unkept(front: Front, blobs: Iterable[Digest], *, partial: bool = False, aside: bool = False) -> None:
    """Drop those blobs that no image keeps.

    A failure is only logged: `crisp doctor` and the next start find the blobs. `partial`: also drop unfinished
    downloads of them. `aside`: keep them for a while, for a pull that is repeated.
    """
    gone = image_records.unkept(blobs, front.replica.images.values())
    try:
        if gone:
            await front.image.call(image.DROP, image.DropRequest(digests=gone, partial=partial, aside=aside))
    except CrispError as error:
        _LOG.warning("%d blobs of images stay in the blob folder: %s", len(gone), error)
