"""The CRI's ImageService, spine by spine. Lists and statuses are answered from memory."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

from kernel.contracts import storage
from kernel.contracts.contract import Nothing
from kernel.contracts.records import Image, Intent, IntentKind
from kernel.contracts.supervisor import Commit
from kernel.cri.generated import cri_pb2
from kernel.errors import CrispError, FailedPrecondition, InvalidInput
from kernel.front.context import Call, Front, Rpcs
from kernel.front.images import pull_flow
from kernel.front.memory.image_memory import PullProgress, PullUnderWay
from kernel.front.requests import image_spec
from kernel.front.requests.image_spec import PullPlan
from kernel.front.responses import image_views
from kernel.host.aio import Deadline
from kernel.ids import ImageId

_LOG = logging.getLogger(__name__)
_CHUNK = 100
"""Images in one message of StreamImages."""
ABANDONED_SECONDS = 5.0
"""How long a pull goes on that nobody waits for: a kubelet that has lost the connection asks again at once."""
_FS_INFO_SECONDS = 5.0
"""The age from which on ImageFsInfo has the file systems measured again; the old answer is given meanwhile."""
_FS_INFO_WAIT = 0.5
_MEASURE = ("measure file systems",)


async def pull_image(front: Front, request: cri_pb2.PullImageRequest, call: Call) -> cri_pb2.PullImageResponse:
    """Pull an image; equal pulls join, and one whose callers have all left ends."""
    namespace = request.sandbox_config.metadata.namespace
    under_way = await begin_pull(front, request.image, request.auth, namespace, call)
    async with waiting(front, under_way):
        return cri_pb2.PullImageResponse(image_ref=await asyncio.shield(under_way.task))


@asynccontextmanager
async def waiting(front: Front, pull: PullUnderWay) -> AsyncIterator[None]:
    """A call wants a pull's result, for the time of the body. A pull that nobody wants ends, after a moment in which
    somebody may ask again."""
    pull.waiting += 1
    try:
        yield
    finally:
        pull.waiting -= 1
        if not pull.waiting and not pull.task.done():
            front.tasks.start(_abandon(front, pull), f"abandon {pull.task.get_name()}")


async def _abandon(front: Front, pull: PullUnderWay) -> None:
    await asyncio.wait([pull.task], timeout=ABANDONED_SECONDS)
    if pull.task.done() or pull.waiting or pull.progress.abandoned:
        return
    _LOG.info("%s ends: nobody waits for it any more", pull.task.get_name())
    pull.progress.abandoned = True
    _forget(front, pull)  # whoever asks from now on begins a new one, behind the end of this
    pull.task.cancel()


def _forget(front: Front, pull: PullUnderWay) -> None:
    for key, known in list(front.images.pulls.items()):
        if known is pull:
            del front.images.pulls[key]


async def begin_pull(
    front: Front, spec: cri_pb2.ImageSpec, auth: cri_pb2.AuthConfig, namespace: str, call: Call
) -> PullUnderWay:
    """The pull that a request asks for: the one that runs already, or a new one."""
    await front.short_names.refresh(spec.image)
    plan = image_spec.pull_of(spec, auth, namespace, front.short_names.candidates)
    key = image_spec.join_key(plan)
    pulls = front.images.pulls
    if key not in pulls:
        progress = PullProgress()
        flow = _pull(front, plan, progress, call.flow_deadline(pull_flow.PULL_SECONDS))
        begun = PullUnderWay(progress, front.tasks.start(flow, f"pull {plan}"))
        pulls[key] = begun
        begun.task.add_done_callback(lambda _: _forget(front, begun))
    return pulls[key]


async def _pull(front: Front, plan: PullPlan, progress: PullProgress, deadline: Deadline) -> ImageId:
    image = await pull_flow.first(front, plan, progress, deadline)
    measure_again(front)
    return image


async def image_status(front: Front, request: cri_pb2.ImageStatusRequest, call: Call) -> cri_pb2.ImageStatusResponse:
    """One image; an empty answer where there is none."""
    found = await named(front, request.image)
    if found is None or found.id in front.images.incomplete:
        return cri_pb2.ImageStatusResponse()
    return cri_pb2.ImageStatusResponse(
        image=image_views.to_cri(found, front.config.image.pinned),
        info=image_views.info(found) if request.verbose else None,
    )


async def named(front: Front, spec: cri_pb2.ImageSpec) -> Image | None:
    """The image that a request names; None where it is not here."""
    name = image_spec.name_of(spec)
    await front.short_names.refresh(name)
    return front.replica.image(name)


async def list_images(front: Front, request: cri_pb2.ListImagesRequest, call: Call) -> bytes:
    """All images, or the one that the filter names: a ListImagesResponse."""
    return b"".join(_listed(front, request.filter))


async def stream_images(front: Front, request: cri_pb2.StreamImagesRequest, call: Call) -> AsyncIterator[bytes]:
    """As ListImages, in messages of bounded size: StreamImagesResponses."""
    images = list(_listed(front, request.filter))
    for start in range(0, len(images), _CHUNK):
        yield b"".join(images[start : start + _CHUNK])


def _listed(front: Front, wanted: cri_pb2.ImageFilter) -> Iterator[bytes]:
    found = [image for image in front.replica.images.values() if image.id not in front.images.incomplete]
    if wanted.image.image:
        try:
            named = front.replica.image(wanted.image.image)
        except InvalidInput:
            named = None  # a filter that fits nothing
        found = [image for image in found if named is not None and image.id == named.id]
    return map(front.image_items.of, found)


async def remove_image(front: Front, request: cri_pb2.RemoveImageRequest, call: Call) -> cri_pb2.RemoveImageResponse:
    """Remove an image with all its names, and the layers that no other image has; gone already is success."""
    found = await named(front, request.image)
    if found is not None:
        await remove(front, found.id, call)
    return cri_pb2.RemoveImageResponse()


async def remove(front: Front, image: ImageId, call: Call) -> None:
    """Remove an image by id; removals of one image join."""
    key = ("remove image", image)
    if not front.ends.running(key):
        front.ends.begin(key, _remove(front, image, call.flow_deadline()), f"remove image {image}")
    await front.ends.wait(key)


async def _remove(front: Front, image: ImageId, deadline: Deadline) -> None:
    async with front.locks.hold(image):
        found = front.replica.images.get(image)
        if found is None:
            return
        _refuse_in_use(front, found)
        intent = Intent(
            id=image,
            kind=IntentKind.REMOVE_IMAGE,
            begun_at=time.time_ns(),
            layers=tuple(layer.diff_id for layer in found.layers),
        )
        # From here on the image is in no list, whatever becomes of its layers.
        await front.replica.commit(Commit(begin=(intent,), delete_images=(image,)), deadline)
        front.images.incomplete.discard(image)
        try:
            await pull_flow.release(front, intent, deadline)
        except CrispError:
            pull_flow.release_later(front, intent)
            raise
        await pull_flow.drop_unkept(front, found.blobs)
    measure_again(front)


def _refuse_in_use(front: Front, image: Image) -> None:
    users = front.replica.uses(image.id)
    if users:
        name = next(iter((*image.tags, *image.digests, image.id)))
        more = f" and {len(users) - 1} more" if len(users) > 1 else ""
        raise FailedPrecondition(
            f"image {name} is used by container {users[0].id} ({users[0].name}){more}",
            hint="remove the containers first",
        )


async def image_fs_info(front: Front, request: cri_pb2.ImageFsInfoRequest, call: Call) -> cri_pb2.ImageFsInfoResponse:
    """Sizes of the file systems as last measured. The first call waits for storage; so does one after a pull or a
    removal, but not for long."""
    memory = front.images
    if memory.fs_info is None:
        await _measure(front, call.deadline)
    elif front.ends.running(_MEASURE):
        with suppress(TimeoutError):
            async with asyncio.timeout(_FS_INFO_WAIT):
                await front.ends.wait(_MEASURE)
    elif time.monotonic() - memory.fs_info_read > _FS_INFO_SECONDS:
        measure_again(front)
    assert memory.fs_info is not None  # measured above, or an error was raised
    return image_views.fs_info_to_cri(memory.fs_info, memory.fs_info_at)


def measure_again(front: Front) -> None:
    """Measure beside the caller; once at a time."""
    if not front.ends.running(_MEASURE):
        front.ends.begin(_MEASURE, _measure_quietly(front), _MEASURE[0])


async def _measure_quietly(front: Front) -> None:
    try:
        await _measure(front, Deadline.after(storage.FS_INFO.deadline))
    except CrispError as error:
        _LOG.warning("the file systems could not be measured: %s", error)


async def _measure(front: Front, deadline: Deadline) -> None:
    found = await front.storage.call(storage.FS_INFO, Nothing(), deadline=deadline)
    front.images.fs_info = found
    front.images.fs_info_at = time.time_ns()
    front.images.fs_info_read = time.monotonic()


RPCS: Rpcs = {
    "PullImage": pull_image,
    "ImageStatus": image_status,
    "ListImages": list_images,
    "StreamImages": stream_images,
    "RemoveImage": remove_image,
    "ImageFsInfo": image_fs_info,
}
