"""Makes an image of a plan, the step that pulls and loads share: intent, layers side by side, record.

The front trusts nothing that the image worker reports: it computes the image's id from the configuration's bytes and
parses them itself (`checked`); storage hashes each layer and compares it with its diff id.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field

from kernel.contracts import image, storage
from kernel.contracts.definition import Message, Nothing
from kernel.contracts.oci import Auth, Descriptor, Layer, Signature
from kernel.contracts.records import Image, Intent, IntentKind
from kernel.contracts.storage import Usage
from kernel.contracts.supervisor import Commit
from kernel.errors import CrispError, InvalidInput, ResourceExhausted, Unavailable
from kernel.front.context import Front
from kernel.front.documents import image_config, manifest_chain
from kernel.front.images import image_records, layer_release
from kernel.front.memory.image_memory import Phase, PullProgress
from kernel.host.aio import Deadline
from kernel.ids import DiffId, Digest, ImageId, digest

_LOG = logging.getLogger(__name__)
REPEATED_SECONDS = 360.0
"""Seconds for which the layers of a pull are kept that failed because a registry or worker was away: a little more than
the kubelet's longest pause before it repeats a pull."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlan:
    """An image that is to be made: its layers are unpacked, then it is recorded."""

    parsed: image_config.Parsed
    layers: tuple[Layer, ...]
    """Each layer once."""
    source: str
    """The reference or the archive, for messages."""
    reference: str = ""
    """The reference by which blobs are fetched; empty if they lie in the blob folder already."""
    auth: Auth | None = None
    namespace: str = ""
    """The Kubernetes namespace of the pod that the image is pulled for; empty if there is none."""
    helped: dict[str, Auth] = field(default_factory=dict)
    """Credentials from helper programs, by server."""
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    manifest_digests: tuple[Digest, ...] = ()
    documents: tuple[bytes, ...] = ()
    """Its configuration and manifests, which are kept with it."""
    fetched: set[Digest] = field(default_factory=set)
    """Layers that have been fetched."""
    signatures: tuple[Signature, ...] = ()
    progress: PullProgress = field(default_factory=PullProgress)


def checked(source: str, config: bytes, blobs: tuple[Descriptor, ...]) -> tuple[image_config.Parsed, tuple[Layer, ...]]:
    """Return the parsed configuration and the layers, each once; errors name `source`, the reference or archive."""
    try:
        parsed = image_config.parse(config, len(blobs))
        layers: dict[DiffId, Layer] = {}
        for blob, diff_id in zip(blobs, parsed.diff_ids, strict=True):
            if blob.size < 0:
                raise InvalidInput(f"layer {blob.digest!r} has size {blob.size}")
            digest(blob.digest)
            layers[diff_id] = Layer(blob=blob, diff_id=diff_id)
    except CrispError as error:
        raise type(error)(f"image {source}: {error.message}", hint=error.hint) from error
    return parsed, tuple(layers.values())


async def make(front: Front, plan: ImagePlan, deadline: Deadline) -> ImageId:
    """Make an image, or give new names to one that is here; return its id. A failure leaves nothing."""
    own = plan.parsed.id
    for layer in plan.layers:
        plan.progress.set(layer.blob.digest, Phase.WAITING, layer.blob.size)
    async with front.locks.hold(own):
        if not await _name_again(front, plan, deadline):
            await _unpack(front, plan, deadline)
    front.images.incomplete.discard(own)
    _LOG.info("image %s is %s", plan.source, own)
    return own


async def _name_again(front: Front, plan: ImagePlan, deadline: Deadline) -> bool:
    """Record the plan's names if the image is here and whole; return whether it was.

    No intent is written, so containers can be made of the image meanwhile.
    """
    if plan.parsed.id not in front.replica.images:
        return False
    present = (await front.storage.call(storage.LAYERS, Nothing(), deadline=deadline)).layers
    if any(layer.diff_id not in present for layer in plan.layers):
        return False
    for layer in plan.layers:
        plan.progress.set(layer.blob.digest, Phase.DONE, layer.blob.size)
    sizes = {diff_id: usage.bytes for diff_id, usage in present.items()}
    await front.image.call(image.KEEP, image.KeepRequest(documents=plan.documents), deadline=deadline)
    await front.replica.commit(Commit(put_images=_records(front, plan, sizes)), deadline)
    return True


async def _unpack(front: Front, plan: ImagePlan, deadline: Deadline) -> None:
    """Have all layers unpacked, then record the image."""
    own = plan.parsed.id
    intent = Intent(
        id=own,
        kind=IntentKind.PULL_IMAGE,
        begun_at=time.time_ns(),
        layers=tuple(layer.diff_id for layer in plan.layers),
    )
    try:
        async with front.locks.hold(layer_release.LAYERS):
            await front.replica.commit(Commit(begin=(intent,)), deadline)
            present = (await front.storage.call(storage.LAYERS, Nothing(), deadline=deadline)).layers
        sizes = await _side_by_side([_layer(front, plan, layer, present, deadline) for layer in plan.layers])
        await front.image.call(image.KEEP, image.KeepRequest(documents=plan.documents), deadline=deadline)
        await front.replica.commit(Commit(put_images=_records(front, plan, dict(sizes)), end=(own,)), deadline)
    except CrispError as error:
        await _undo(front, plan, intent, error)
        raise
    except asyncio.CancelledError:
        if plan.progress.abandoned:  # otherwise the front ends, and the next one undoes it
            await _undo(front, plan, intent)
        raise


def _records(front: Front, plan: ImagePlan, sizes: dict[DiffId, int]) -> tuple[Image, ...]:
    return image_records.committed(
        front.replica.images,
        plan.parsed,
        sizes,
        tags=plan.tags,
        digests=plan.digests,
        manifest_digests=plan.manifest_digests,
        blobs=_kept(front, plan),
        signatures=plan.signatures,
        checkpoint_of=manifest_chain.checkpoint_of(plan.documents),
        now=time.time_ns(),
    )


def _kept(front: Front, plan: ImagePlan) -> tuple[Digest, ...]:
    """Return the blobs that are kept: the documents, and layers that were fetched for it or are kept for another."""
    documents = tuple(image_config.image_id(data) for data in plan.documents)
    if not front.config.image.keep_blobs:
        return documents
    layers = [layer.blob.digest for layer in plan.layers]
    others = set(layers) - set(image_records.unkept(layers, front.replica.images.values()))
    return (*documents, *(blob for blob in layers if blob in plan.fetched or blob in others or not plan.reference))


async def _layer(
    front: Front, plan: ImagePlan, layer: Layer, present: dict[DiffId, Usage], deadline: Deadline
) -> tuple[DiffId, int]:
    """Have one layer unpacked, and fetched before if storage does not have it; return its size unpacked."""
    blob = layer.blob
    async with front.locks.hold(layer.diff_id):
        usage = present.get(layer.diff_id)
        replica = front.replica
        if usage is None and image_records.claimed_elsewhere(
            layer.diff_id, plan.parsed.id, replica.images.values(), replica.intents.values()
        ):
            # Another pull may have unpacked it while this one waited for the lock.
            usage = (await front.storage.call(storage.LAYERS, Nothing(), deadline=deadline)).layers.get(layer.diff_id)
        if usage is None:
            usage = await _fetch_and_unpack(front, plan, layer, deadline)
        plan.progress.set(blob.digest, Phase.DONE, blob.size)
        return layer.diff_id, usage.bytes


async def _fetch_and_unpack(front: Front, plan: ImagePlan, layer: Layer, deadline: Deadline) -> Usage:
    blob = layer.blob

    def on_progress(message: Message) -> None:
        if isinstance(message, image.Progress):
            plan.progress.set(blob.digest, Phase.DOWNLOADING, blob.size, message.done)

    if plan.reference:
        plan.progress.set(blob.digest, Phase.DOWNLOADING, blob.size)
        fetch = image.FetchRequest(
            reference=plan.reference, blob=blob, auth=plan.auth, namespace=plan.namespace, helped=plan.helped
        )
        await front.image.call(image.FETCH, fetch, deadline=deadline, on_progress=on_progress)
    plan.progress.set(blob.digest, Phase.UNPACKING, blob.size, blob.size)
    try:
        usage = await front.storage.call(storage.UNPACK, storage.UnpackRequest(layer=layer), deadline=deadline)
    except CrispError as error:
        raise type(error)(f"layer {blob.digest} of image {plan.source}: {error.message}", hint=error.hint) from error
    plan.fetched.add(blob.digest)
    if not front.config.image.keep_blobs:
        await front.image.call(image.DROP, image.DropRequest(digests=(blob.digest,)), deadline=deadline)
    return usage


async def _undo(front: Front, plan: ImagePlan, intent: Intent, error: CrispError | None = None) -> None:
    """Remove what a failed pull left; if the disk is full, the beginnings of its layers too.

    If a registry or a worker was away, the pull will be repeated: what was fetched stays for a while, under the
    intent. If undoing fails too it is tried again in the background.
    """
    replica = front.replica
    blobs = [
        layer.blob.digest
        for layer in plan.layers
        if not image_records.claimed_elsewhere(layer.diff_id, plan.parsed.id, (), replica.intents.values())
    ]
    full, away = isinstance(error, ResourceExhausted), isinstance(error, Unavailable)
    documents = [image_config.image_id(data) for data in plan.documents]
    await layer_release.drop_unkept(front, [*blobs, *documents], partial=full, aside=away)
    if away:
        layer_release.release_later(front, intent, REPEATED_SECONDS)
        return
    try:
        await layer_release.release(front, intent, Deadline.after(layer_release.UNDO_SECONDS))
    except CrispError as failure:
        _LOG.warning("image %s: what a failed pull left stays for a while: %s", plan.source, failure)
        layer_release.release_later(front, intent)


async def _side_by_side(
    layers: list[Coroutine[object, object, tuple[DiffId, int]]],
) -> list[tuple[DiffId, int]]:
    """Run all at once; the first error ends the others and is raised, but an error of crisp's own code before it."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(layer) for layer in layers]
    except BaseExceptionGroup as group_error:
        errors = group_error.exceptions
        raise next((error for error in errors if not isinstance(error, CrispError)), errors[0]) from None
    return [task.result() for task in tasks]
