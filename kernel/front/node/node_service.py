"""The service crisp.v1.Node (`kernel/cri/node.proto`): the command line's calls to the front beside the CRI.

Each RPC is served by a spine, as everywhere in the front.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator

from kernel.contracts import storage
from kernel.cri.generated import cri_pb2, node_pb2
from kernel.errors import CrispError, InvalidInput, NotFound
from kernel.front.context import Call, Front, Rpcs
from kernel.front.images import image_queries, load_flow, pulls, removal, repair
from kernel.front.memory.image_memory import LayerProgress, Phase, PullUnderWay
from kernel.front.node import doctor
from kernel.front.responses import image_views
from kernel.ids import DiffId, Digest, digest
from kernel.state.recover import Orphan

_ARCHIVE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_LOG = logging.getLogger(__name__)
_CHECK_SECONDS = 7200.0
"""The least seconds that a check of all images may take, with repairs."""
_PHASES = {
    Phase.WAITING: node_pb2.WAITING,
    Phase.DOWNLOADING: node_pb2.DOWNLOADING,
    Phase.UNPACKING: node_pb2.UNPACKING,
    Phase.DONE: node_pb2.DONE,
}


async def load_image(front: Front, request: node_pb2.LoadImageRequest, call: Call) -> node_pb2.LoadImageResponse:
    """Serve LoadImage: make images of an archive that the command line has put into the folder of incoming archives."""
    if not _ARCHIVE.fullmatch(request.archive):
        raise InvalidInput(f"archive: {request.archive[:80]!r} is not a plain file name")
    loaded = await load_flow.load(front, request.archive, call.flow_deadline())
    return node_pb2.LoadImageResponse(images=[node_pb2.LoadedImage(id=id_, names=names) for id_, names in loaded])


async def pull_image(
    front: Front, request: node_pb2.PullImageRequest, call: Call
) -> AsyncIterator[node_pb2.PullImageResponse]:
    """Serve PullImage: begin a pull or join the one under way; yield its progress, and the image's id last."""
    auth = cri_pb2.AuthConfig(username=request.username, password=request.password)
    under_way = await pulls.begin(front, cri_pb2.ImageSpec(image=request.image), auth, "", call)
    async with pulls.waiting(front, under_way):
        async for message in _watched(under_way):
            yield message
        yield node_pb2.PullImageResponse(id=await pulls.result(under_way))


async def _watched(pull: PullUnderWay) -> AsyncIterator[node_pb2.PullImageResponse]:
    """Yield the progress of a pull until it ends. Several changes between two messages become one."""
    changed = pull.progress.watch()
    pull.task.add_done_callback(lambda _: changed.set())
    sent: dict[Digest, LayerProgress] = {}
    try:
        while True:
            changed.clear()
            news = {layer: at for layer, at in pull.progress.layers.items() if sent.get(layer) != at}
            sent.update(news)
            if news:
                yield node_pb2.PullImageResponse(layers=[_layer(layer, at) for layer, at in news.items()])
            if pull.task.done():
                return
            await changed.wait()
    finally:
        pull.progress.unwatch(changed)


def _layer(layer: Digest, at: LayerProgress) -> node_pb2.LayerProgress:
    return node_pb2.LayerProgress(digest=layer, phase=_PHASES[at.phase], done=at.done, total=at.total)


async def save_image(front: Front, request: node_pb2.SaveImageRequest, call: Call) -> node_pb2.SaveImageResponse:
    """Serve SaveImage: name the parts from which the command line makes an archive of an image."""
    found = await image_queries.named(front, cri_pb2.ImageSpec(image=request.image))
    if found is None:
        raise NotFound(f"no image {request.image!r}", hint="see `crisp images`")
    return node_pb2.SaveImageResponse(
        id=found.id, tags=found.tags, manifest_digests=found.manifest_digests, blobs=found.blobs
    )


async def export_layer(front: Front, request: node_pb2.ExportLayerRequest, call: Call) -> node_pb2.ExportLayerResponse:
    """Serve ExportLayer: have storage make a layer's tar again."""
    layer = storage.ExportRequest(diff_id=DiffId(digest(request.diff_id)), name=request.name)
    exported = await front.storage.call(storage.EXPORT, layer, deadline=call.deadline)
    return node_pb2.ExportLayerResponse(size=exported.size)


async def check_images(
    front: Front, request: node_pb2.CheckImagesRequest, call: Call
) -> AsyncIterator[node_pb2.CheckImagesResponse]:
    """Serve CheckImages: yield for each layer whether it still has its digest, and repair it if requested."""
    async for finding in repair.check(front, repair=request.repair, deadline=call.flow_deadline(_CHECK_SECONDS)):
        yield node_pb2.CheckImagesResponse(
            layer=finding.layer, images=finding.images, state=finding.found.state.value, why=finding.found.why,
            repaired=finding.repaired, error=finding.error,
        )  # fmt: skip


async def wipe_images(front: Front, request: node_pb2.WipeImagesRequest, call: Call) -> node_pb2.WipeImagesResponse:
    """Serve WipeImages: remove all images that are not in use, then the layers and blobs that belong to none."""
    reply = node_pb2.WipeImagesResponse()
    for image in tuple(front.replica.images.values()):
        wiped = reply.images.add(id=image.id, name=repair.name_of(image))
        if image_views.is_pinned(image, front.config.image.pinned):
            wiped.why = "it is pinned by the configuration"
            continue
        try:
            await removal.remove(front, image.id, call)
            wiped.removed = True
        except CrispError as error:
            wiped.why = str(error)
    for orphan in (await doctor.examine(front, call.deadline)).orphans:
        if orphan.kind in (Orphan.PARTIAL_LAYER, Orphan.LAYER, Orphan.BLOB) and doctor.certain(front, orphan):
            try:
                await doctor.mend(front, orphan, call.deadline)
            except CrispError as error:
                _LOG.warning("not wiped: %s: %s", orphan.describe(), error)
            else:
                reply.left_overs += 1
    return reply


async def examine(front: Front, request: node_pb2.DoctorRequest, call: Call) -> node_pb2.DoctorResponse:
    """Serve Doctor: list the things that the host holds without an owner, and remove them if requested."""
    examined = await doctor.examine(front, call.deadline)
    findings = [node_pb2.Finding(kind="worker", id=name, why=why) for name, why in sorted(examined.silent.items())]
    for orphan in examined.orphans:
        finding = node_pb2.Finding(kind=orphan.kind.value, id=orphan.id, why=orphan.why, mendable=orphan.sweep)
        if request.mend and orphan.sweep:
            try:
                await doctor.mend(front, orphan, call.deadline)
                finding.mended = True
            except CrispError as error:
                finding.error = str(error)
        findings.append(finding)
    return node_pb2.DoctorResponse(findings=findings)


RPCS: Rpcs = {
    "LoadImage": load_image,
    "SaveImage": save_image,
    "ExportLayer": export_layer,
    "PullImage": pull_image,
    "CheckImages": check_images,
    "WipeImages": wipe_images,
    "Doctor": examine,
}
