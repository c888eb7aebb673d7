"""Makes images of an archive in the folder of incoming archives."""

from __future__ import annotations

from kernel.contracts import image
from kernel.formats.reference import parse
from kernel.front.context import Front
from kernel.front.images import layer_release, make_image
from kernel.front.images.make_image import ImagePlan
from kernel.host.aio import Deadline, Joins
from kernel.ids import ImageId, digest

Loaded = list[tuple[ImageId, tuple[str, ...]]]
"""The ids of the images of an archive, each with its names."""


async def load(front: Front, archive: str, deadline: Deadline) -> Loaded:
    """Make images of an archive in the folder of incoming archives. This goes on if the caller leaves."""
    own: Joins[str, Loaded] = Joins(front.tasks)  # a second load of the same archive is one of its own
    return await own.join(archive, lambda: _counted(front, archive, deadline), f"load {archive}")


async def _counted(front: Front, archive: str, deadline: Deadline) -> Loaded:
    front.images.loads += 1
    try:
        return await _load(front, archive, deadline)
    finally:
        front.images.loads -= 1


async def _load(front: Front, archive: str, deadline: Deadline) -> Loaded:
    loaded = await front.image.call(image.LOAD, image.LoadRequest(archive=archive), deadline=deadline)
    result = []
    try:
        for found in loaded.images:
            documents = (found.config, *found.documents)
            source = f"{found.names[0] if found.names else 'without a name'} of the archive"
            parsed, layers = make_image.checked(source, found.config, found.layers)
            tags = tuple(reference.tagged for reference in map(parse, found.names) if reference.tagged)
            manifests = (digest(found.manifest_digest),) if found.manifest_digest else ()
            plan = ImagePlan(
                parsed=parsed, layers=layers, source=source, tags=tags, manifest_digests=manifests, documents=documents
            )
            result.append((await make_image.make(front, plan, deadline), tags))
    finally:
        await layer_release.drop_unkept(front, [blob.digest for found in loaded.images for blob in found.layers])
    return result
