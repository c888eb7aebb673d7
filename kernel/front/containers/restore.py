"""CreateContainer from a checkpoint: the request's image names an archive of the host, or an image that is one.

    storage.describe → the image that the container had → its flow as any other's, with storage.restore after the mount

The descriptions in the checkpoint are not trusted (`checkpoint_descriptions`). Its processes are whatever its files
tell CRIU to make, so an archive must be owned by root and an image be listed in the configuration.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from kernel.contracts import storage
from kernel.contracts.records import Container, Image
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import FailedPrecondition, InvalidInput, NotFound, PermissionDenied
from kernel.front.context import Front
from kernel.front.documents import checkpoint_descriptions
from kernel.front.documents.checkpoint_descriptions import Origin
from kernel.front.requests import container_config, fields
from kernel.host.aio import Deadline
from kernel.ids import Digest, ImageId


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A checkpoint that a container is to be restored from."""

    place: str
    """The archive's path, or the id of the image that is the checkpoint: `Container.restored_from`."""
    image: Image
    """The image of the container that was checkpointed."""
    origin: Origin
    """The checkpoint's description of that container."""


async def find(front: Front, config: cri.ContainerConfig, deadline: Deadline) -> Source | None:
    """Return the checkpoint that a request names as its image; None if that is an ordinary image."""
    name = container_config.image_of(config)
    if name.startswith("/"):
        _check_allowed(front, name)
        place = fields.path("config.image.image", name)
        checkpoint = storage.Checkpoint(archive=place)
    else:
        image = front.replica.image(name)
        if image is None or not image.checkpoint_of:
            return None
        _check_allowed(front, name)
        _check_listed(front, image, name)
        place, checkpoint = image.id, _of_image(image)
    description = await front.storage.call(storage.DESCRIBE, checkpoint, deadline=deadline)
    origin = checkpoint_descriptions.parse(name, description)
    if origin.terminal != config.tty:
        raise InvalidInput(
            f"config.tty: the container of checkpoint {name} had {'a' if origin.terminal else 'no'} terminal"
        )
    return Source(place=place, image=_image_of(front, origin, name), origin=origin)


async def take_in(front: Front, record: Container, deadline: Deadline) -> None:
    """Have storage write the checkpoint's files for a container whose root file system is mounted."""
    place = record.restored_from
    async with AsyncExitStack() as held:
        checkpoint = storage.Checkpoint(archive=place)
        if not place.startswith("/"):
            await held.enter_async_context(front.locks.hold(place))  # it is not removed meanwhile
            image = front.replica.images.get(ImageId(Digest(place)))
            if image is None:
                raise NotFound(f"image {place}, which is the checkpoint, was removed meanwhile")
            checkpoint = _of_image(image)
        request = storage.RestoreRequest(container_id=record.id, checkpoint=checkpoint)
        await front.storage.call(storage.RESTORE, request, deadline=deadline)


def _of_image(image: Image) -> storage.Checkpoint:
    return storage.Checkpoint(layers=tuple(layer.diff_id for layer in image.layers))


def _check_allowed(front: Front, name: str) -> None:
    if front.config.runtime.checkpoint != "checkpoint_restore":
        raise FailedPrecondition(
            f"config.image.image: {name}: containers are not restored on this node", hint="runtime.checkpoint says so"
        )


def _check_listed(front: Front, image: Image, name: str) -> None:
    allowed = front.config.runtime.checkpoint_images
    if not checkpoint_descriptions.is_listed((*image.tags, *image.digests), allowed):
        raise PermissionDenied(
            f"config.image.image: {name} is a checkpoint of container {image.checkpoint_of[:80]!r}",
            hint="CRIU makes processes of it as root: list it in runtime.checkpoint_images if you trust it",
        )


def _image_of(front: Front, origin: Origin, name: str) -> Image:
    by_id = front.replica.images.get(ImageId(Digest(origin.image_id)))
    if by_id is not None:
        return by_id
    if not origin.image_id:
        for known in origin.image_names:
            found = front.replica.image(known)
            if found is not None:
                return found
    wanted = next(iter((*origin.image_names, origin.image_id)))
    raise NotFound(
        f"config.image.image: {name} is a checkpoint of a container of image {wanted[:200]!r}, which is not here",
        hint="pull it first" if not origin.image_id else f"pull it first, with id {origin.image_id[:19]}",
    )
