"""ImageStatus, ListImages and StreamImages, answered from memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from kernel.contracts.records import Image
from kernel.cri.generated import cri_pb2
from kernel.errors import InvalidInput
from kernel.front.context import Call, Front
from kernel.front.requests import image_spec
from kernel.front.responses import image_views

_CHUNK = 100
"""Images in one message of StreamImages."""


async def image_status(front: Front, request: cri_pb2.ImageStatusRequest, call: Call) -> cri_pb2.ImageStatusResponse:
    """Serve ImageStatus; the answer is empty if the image is not here, or not whole."""
    found = await named(front, request.image)
    if found is None or found.id in front.images.incomplete:
        return cri_pb2.ImageStatusResponse()
    return cri_pb2.ImageStatusResponse(
        image=image_views.to_cri(found, front.config.image.pinned),
        info=image_views.info(found) if request.verbose else None,
    )


async def named(front: Front, spec: cri_pb2.ImageSpec) -> Image | None:
    """Return the image that a request names; None if it is not here."""
    name = image_spec.name_of(spec)
    await front.short_names.refresh(name)
    return front.replica.image(name)


async def list_images(front: Front, request: cri_pb2.ListImagesRequest, call: Call) -> bytes:
    """Serve ListImages: all images, or the one that the filter names, as a serialised ListImagesResponse."""
    return b"".join(_listed(front, request.filter))


async def stream_images(front: Front, request: cri_pb2.StreamImagesRequest, call: Call) -> AsyncIterator[bytes]:
    """Serve StreamImages: as ListImages, in serialised StreamImagesResponses of bounded size."""
    images = list(_listed(front, request.filter))
    for start in range(0, len(images), _CHUNK):
        yield b"".join(images[start : start + _CHUNK])


def _listed(front: Front, wanted: cri_pb2.ImageFilter) -> Iterator[bytes]:
    found = [image for image in front.replica.images.values() if image.id not in front.images.incomplete]
    if wanted.image.image:
        try:
            named = front.replica.image(wanted.image.image)
        except InvalidInput:
            named = None  # a filter that no image passes
        found = [image for image in found if named is not None and image.id == named.id]
    return map(front.image_items.of, found)
