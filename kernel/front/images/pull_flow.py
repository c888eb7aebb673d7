"""The spine of a pull and of a load: resolve, judge, intent, layers side by side, record.

Nothing that the image worker says is trusted: the front computes the image's id from the configuration's bytes,
parses them itself, and names the image as the caller did; storage hashes each layer against its diff id.

Which layers may be deleted is decided from records and intents under the lock `LAYERS`, by this module alone. A pull
writes its intent and asks what storage has under the same lock, so what it counts on is not deleted meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field

from msgspec import structs

from kernel.contracts import image, storage
from kernel.contracts.contract import Message, Nothing
from kernel.contracts.oci import Auth, Descriptor, Layer, Signature
from kernel.contracts.records import Image, Intent, IntentKind
from kernel.contracts.storage import Usage
from kernel.contracts.supervisor import Commit
from kernel.errors import (
    Cancelled,
    Corrupt,
    CrispError,
    DeadlineExceeded,
    Internal,
    InvalidInput,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from kernel.formats.reference import Reference, parse
from kernel.front.context import Front
from kernel.front.documents import image_config, manifest_chain
from kernel.front.images import admission, credential_helpers, image_records
from kernel.front.memory.image_memory import Phase, PullProgress
from kernel.front.requests.image_spec import PullPlan
from kernel.host.aio import Deadline
from kernel.ids import DiffId, Digest, ImageId, digest

_LOG = logging.getLogger(__name__)

PULL_SECONDS = 7200.0
"""What a pull may take that goes on without its caller; a download that stalls is given up long before."""
_UNDO_SECONDS = 120.0
REPEATED_SECONDS = 360.0
"""How long the layers of a pull stay that failed as somebody was away: a little more than the kubelet's longest pause
before it asks again."""
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 600.0
_LAYERS = "layers"
"""The lock of all that decides which layers go or stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """An image whose layers are to be unpacked."""

    parsed: image_config.Parsed
    layers: tuple[Layer, ...]
    """Each layer once."""
    source: str
    """For messages: the reference or the archive."""
    reference: str = ""
    """What blobs are fetched by; empty where they lie in the blob folder already."""
    auth: Auth | None = None
    namespace: str = ""
    helped: dict[str, Auth] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    manifest_digests: tuple[Digest, ...] = ()
    documents: tuple[bytes, ...] = ()
    """Its configuration and manifests, which are kept with it."""
    fetched: set[Digest] = field(default_factory=set)
    """Layers that have been fetched."""
    signatures: tuple[Signature, ...] = ()
    progress: PullProgress = field(default_factory=PullProgress)


async def first(front: Front, plan: PullPlan, progress: PullProgress, deadline: Deadline) -> ImageId:
    """Pull the first image that can be had of those that a name may mean."""
    failures: list[CrispError] = []
    for reference, auth in plan.candidates:
        try:
            return await pull(front, reference, auth, plan.namespace, progress, deadline)
        except (ResourceExhausted, DeadlineExceeded, Cancelled, Internal):
            raise  # our own trouble, not the registry's
        except CrispError as error:
            failures.append(error)
    telling = next((error for error in failures if not isinstance(error, NotFound)), failures[0])
    if len(failures) == 1:
        raise telling
    others = "; ".join(error.message for error in failures if error is not telling)
    raise type(telling)(f"{telling.message}; {others}", hint=telling.hint)


async def pull(
    front: Front, reference: Reference, auth: Auth | None, namespace: str, progress: PullProgress, deadline: Deadline
) -> ImageId:
    """Pull an image; its layers that are on the host already are not fetched."""
    asked = image.ResolveRequest(reference=str(reference), auth=auth, namespace=namespace)
    helped = await credential_helpers.helped(front, asked, deadline)
    asked = structs.replace(asked, helped=helped)
    resolved = await front.image.call(image.RESOLVE, asked, deadline=deadline)
    named = digest(resolved.digest)
    manifest = digest(resolved.manifest_digest)
    try:
        manifest_chain.verify(reference.digest, resolved)
    except Corrupt as error:
        raise Corrupt(f"image {reference}: {error.message}") from error
    parsed, layers = _checked(str(reference), resolved.config, resolved.layers)
    digests = tuple(dict.fromkeys((named, manifest)))
    signatures = await admission.at_pull(front, reference, digests, asked, deadline)
    return await _make(
        front,
        _Plan(
            parsed=parsed,
            layers=layers,
            source=str(reference),
            reference=str(reference),
            auth=auth,
            namespace=namespace,
            helped=helped,
            tags=(reference.tagged,) if reference.tagged else (),
            digests=tuple(f"{reference.name}@{value}" for value in digests),
            manifest_digests=(manifest,),
            documents=(resolved.config, *resolved.documents),
            signatures=signatures,
            progress=progress,
        ),
        deadline,
    )


async def load(front: Front, archive: str, deadline: Deadline) -> list[tuple[ImageId, tuple[str, ...]]]:
    """Make images of an archive in the folder of incoming archives: their ids and names."""
    front.images.loads += 1
    try:
        return await _load(front, archive, deadline)
    finally:
        front.images.loads -= 1


async def _load(front: Front, archive: str, deadline: Deadline) -> list[tuple[ImageId, tuple[str, ...]]]:
    loaded = await front.image.call(image.LOAD, image.LoadRequest(archive=archive), deadline=deadline)
    result = []
    try:
        for found in loaded.images:
            documents = (found.config, *found.documents)
            source = f"{found.names[0] if found.names else 'without a name'} of the archive"
            parsed, layers = _checked(source, found.config, found.layers)
            tags = tuple(reference.tagged for reference in map(parse, found.names) if reference.tagged)
            manifests = (digest(found.manifest_digest),) if found.manifest_digest else ()
            plan = _Plan(
                parsed=parsed, layers=layers, source=source, tags=tags, manifest_digests=manifests, documents=documents
            )
            result.append((await _make(front, plan, deadline), tags))
    finally:
        await drop_unkept(front, [blob.digest for found in loaded.images for blob in found.layers])
    return result


async def release(front: Front, intent: Intent, deadline: Deadline) -> None:
    """Delete an intent's layers that no image and no pull needs, then end it: a pull undone, or a removal finished."""
    async with front.locks.hold(_LAYERS):
        replica = front.replica
        others = [other for other in replica.intents.values() if other.id != intent.id]
        for layer in image_records.ownerless(intent.layers, replica.images.values(), others):
            await front.storage.call(storage.REMOVE_LAYER, storage.LayerRequest(diff_id=layer), deadline=deadline)
        await replica.commit(Commit(end=(intent.id,)), deadline)


def release_later(front: Front, intent: Intent, after: float | None = None) -> None:
    """Try again beside everything else what `release` could not do: nothing dangles until the next start."""
    pause = _FIRST_PAUSE if after is None else after
    front.tasks.start(_release_again(front, intent, pause), f"release {intent.id}")


async def _release_again(front: Front, intent: Intent, pause: float) -> None:
    while True:
        await asyncio.sleep(pause)  # not a wait for an event: nobody tells when a disk is writable again
        pause = min(pause * 2, _LONGEST_PAUSE)
        async with front.locks.hold(intent.id):
            if front.replica.intents.get(intent.id) is not intent:
                return  # a new pull or removal has taken it up
            try:
                await release(front, intent, Deadline.after(_UNDO_SECONDS))
            except CrispError as error:
                _LOG.warning("layers of %s are not released yet: %s", intent.id, error)
            else:
                return


async def sweep_layer(front: Front, layer: DiffId, deadline: Deadline) -> None:
    """Delete a layer, unless an image or a pull needs it by now."""
    async with front.locks.hold(_LAYERS):
        replica = front.replica
        if image_records.ownerless((layer,), replica.images.values(), replica.intents.values()):
            await front.storage.call(storage.REMOVE_LAYER, storage.LayerRequest(diff_id=layer), deadline=deadline)


def _checked(
    source: str, config: bytes, blobs: tuple[Descriptor, ...]
) -> tuple[image_config.Parsed, tuple[Layer, ...]]:
    """The configuration and the layers, as far as the front can check them by itself."""
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


async def _make(front: Front, plan: _Plan, deadline: Deadline) -> ImageId:
    own = plan.parsed.id
    for layer in plan.layers:
        plan.progress.set(layer.blob.digest, Phase.WAITING, layer.blob.size)
    async with front.locks.hold(own):
        if not await _named_again(front, plan, deadline):
            await _unpacked(front, plan, deadline)
    front.images.incomplete.discard(own)
    _LOG.info("image %s is %s", plan.source, own)
    return own


async def _named_again(front: Front, plan: _Plan, deadline: Deadline) -> bool:
    """Whether the image is here and whole: then it only gets its names, and containers can be made of it meanwhile."""
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


async def _unpacked(front: Front, plan: _Plan, deadline: Deadline) -> None:
    """Have all layers unpacked, and record the image."""
    own = plan.parsed.id
    intent = Intent(
        id=own,
        kind=IntentKind.PULL_IMAGE,
        begun_at=time.time_ns(),
        layers=tuple(layer.diff_id for layer in plan.layers),
    )
    try:
        async with front.locks.hold(_LAYERS):
            await front.replica.commit(Commit(begin=(intent,)), deadline)
            present = (await front.storage.call(storage.LAYERS, Nothing(), deadline=deadline)).layers
        sizes = await _side_by_side([_layer(front, plan, layer, present, deadline) for layer in plan.layers])
        await front.image.call(image.KEEP, image.KeepRequest(documents=plan.documents), deadline=deadline)
        await front.replica.commit(Commit(put_images=_records(front, plan, dict(sizes)), end=(own,)), deadline)
    except CrispError as error:
        await _undo(front, plan, intent, error)
        raise
    except asyncio.CancelledError:
        if plan.progress.abandoned:  # else the front ends, and the next one goes on
            await _undo(front, plan, intent)
        raise


def _records(front: Front, plan: _Plan, sizes: dict[DiffId, int]) -> tuple[Image, ...]:
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


def _kept(front: Front, plan: _Plan) -> tuple[Digest, ...]:
    """The blobs of an image that stay: its documents, and layers that were fetched for it or are kept for another."""
    documents = tuple(image_config.image_id(data) for data in plan.documents)
    if not front.config.image.keep_blobs:
        return documents
    layers = [layer.blob.digest for layer in plan.layers]
    others = set(layers) - set(image_records.unkept(layers, front.replica.images.values()))
    return (*documents, *(blob for blob in layers if blob in plan.fetched or blob in others or not plan.reference))


async def _layer(
    front: Front, plan: _Plan, layer: Layer, present: dict[DiffId, Usage], deadline: Deadline
) -> tuple[DiffId, int]:
    """Have one layer unpacked: fetched only where storage does not have it."""
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


async def _fetch_and_unpack(front: Front, plan: _Plan, layer: Layer, deadline: Deadline) -> Usage:
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


async def _undo(front: Front, plan: _Plan, intent: Intent, error: CrispError | None = None) -> None:
    """Take away what a failed pull left; the beginnings of its layers too where the disk is full.

    Where a registry or a worker was away, the pull will be repeated: what has come of it stays for a while, by its
    intent. Where undoing fails too it is tried again.
    """
    replica = front.replica
    blobs = [
        layer.blob.digest
        for layer in plan.layers
        if not image_records.claimed_elsewhere(layer.diff_id, plan.parsed.id, (), replica.intents.values())
    ]
    full, away = isinstance(error, ResourceExhausted), isinstance(error, Unavailable)
    documents = [image_config.image_id(data) for data in plan.documents]
    await drop_unkept(front, [*blobs, *documents], partial=full, aside=away)
    if away:
        release_later(front, intent, REPEATED_SECONDS)
        return
    try:
        await release(front, intent, Deadline.after(_UNDO_SECONDS))
    except CrispError as error:
        _LOG.warning("image %s: what a failed pull left stays for a while: %s", plan.source, error)
        release_later(front, intent)


async def drop_unkept(front: Front, blobs: Iterable[Digest], *, partial: bool = False, aside: bool = False) -> None:
    """Drop those blobs that no image keeps. What stays is found by `crisp doctor` and at the next start: no reason to
    fail."""
    gone = image_records.unkept(blobs, front.replica.images.values())
    try:
        if gone:
            await front.image.call(image.DROP, image.DropRequest(digests=gone, partial=partial, aside=aside))
    except CrispError as error:
        _LOG.warning("%d blobs of images stay in the blob folder: %s", len(gone), error)


async def _side_by_side(
    layers: list[Coroutine[object, object, tuple[DiffId, int]]],
) -> list[tuple[DiffId, int]]:
    """Run all at once; the first error ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(layer) for layer in layers]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
