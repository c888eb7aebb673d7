"""RemoveImage: an image goes with all its names, and the layers that no other image has."""

from __future__ import annotations

import time

from kernel.contracts.records import Image, Intent, IntentKind
from kernel.contracts.supervisor import Commit
from kernel.cri.generated import cri_pb2
from kernel.errors import CrispError, FailedPrecondition
from kernel.front.context import Call, Front
from kernel.front.images import fs_info, image_queries, layer_release
from kernel.host.aio import Deadline
from kernel.ids import ImageId


async def remove_image(front: Front, request: cri_pb2.RemoveImageRequest, call: Call) -> cri_pb2.RemoveImageResponse:
    """Serve RemoveImage. An image that does not exist is success."""
    found = await image_queries.named(front, request.image)
    if found is not None:
        await remove(front, found.id, call)
    return cri_pb2.RemoveImageResponse()


async def remove(front: Front, image_id: ImageId, call: Call) -> None:
    """Remove an image by id; removals of one image join. Raise FailedPrecondition if a container uses it."""
    deadline = call.flow_deadline()
    key = ("remove image", image_id)
    await front.ends.join(key, lambda: _remove(front, image_id, deadline), f"remove image {image_id}")


async def _remove(front: Front, image_id: ImageId, deadline: Deadline) -> None:
    async with front.locks.hold(image_id):
        found = front.replica.images.get(image_id)
        if found is None:
            return
        _refuse_in_use(front, found)
        intent = Intent(
            id=image_id,
            kind=IntentKind.REMOVE_IMAGE,
            begun_at=time.time_ns(),
            layers=tuple(layer.diff_id for layer in found.layers),
        )
        # The image leaves all lists now, even if its layers cannot be deleted.
        await front.replica.commit(Commit(begin=(intent,), delete_images=(image_id,)), deadline)
        front.images.incomplete.discard(image_id)
        try:
            await layer_release.release(front, intent, deadline)
        except CrispError:
            layer_release.release_later(front, intent)
            raise
        await layer_release.drop_unkept(front, found.blobs)
    fs_info.measure_again(front)


def _refuse_in_use(front: Front, image: Image) -> None:
    users = front.replica.uses(image.id)
    if users:
        name = next(iter((*image.tags, *image.digests, image.id)))
        more = f" and {len(users) - 1} more" if len(users) > 1 else ""
        raise FailedPrecondition(
            f"image {name} is used by container {users[0].id} ({users[0].name}){more}",
            hint="remove the containers first",
        )
