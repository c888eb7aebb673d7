"""Records of images: how a pull changes them, and which layers and blobs no image needs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from msgspec import structs

from kernel.contracts.oci import Signature
from kernel.contracts.records import Image, ImageLayer, Intent, IntentKind
from kernel.front.documents.image_config import Parsed, distinct
from kernel.ids import DiffId, Digest, ImageId

_Text = TypeVar("_Text", bound=str)
_MOST_SIGNATURES = 128
_MOST_SIGNATURE_BYTES = 256 << 10
"""The most that an image's record keeps of signatures, in number and in bytes."""


def committed(
    images: Mapping[ImageId, Image],
    parsed: Parsed,
    sizes: Mapping[DiffId, int],
    *,
    tags: Iterable[str],
    digests: Iterable[str],
    manifest_digests: Iterable[Digest],
    blobs: Iterable[Digest],
    signatures: Iterable[Signature],
    checkpoint_of: str = "",
    now: int,
) -> tuple[Image, ...]:
    """Return the records to put once an image's layers are unpacked.

    They are its own, and those of images that lose a tag to it. `sizes` are in bytes, unpacked; `now` is in
    nanoseconds since 1970.
    """
    before = images.get(parsed.id)
    layers = tuple(ImageLayer(diff_id=diff_id, bytes=sizes[diff_id]) for diff_id in distinct(parsed.diff_ids))
    image = Image(
        id=parsed.id,
        tags=_union(before.tags if before else (), tags),
        digests=_union(before.digests if before else (), digests),
        layers=layers,
        size=sum(layer.bytes for layer in layers),
        config=parsed.config,
        manifest_digests=_union(before.manifest_digests if before else (), manifest_digests),
        blobs=_union(before.blobs if before else (), blobs),
        checkpoint_of=checkpoint_of or (before.checkpoint_of if before else ""),
        pulled_at=now,
        signatures=kept_signatures(before.signatures if before else (), signatures),
    )
    return (*_untagged(images.values(), image), image)


def kept_signatures(before: Iterable[Signature], now: Iterable[Signature]) -> tuple[Signature, ...]:
    """Return the signatures to keep of an image that is pulled again: those found now, then older ones that fit."""
    result: list[Signature] = []
    room = _MOST_SIGNATURE_BYTES
    for signature in dict.fromkeys((*now, *before)):
        room -= len(signature.payload) + len(signature.signature)
        if room < 0 or len(result) >= _MOST_SIGNATURES:
            break
        result.append(signature)
    return tuple(result)


def _untagged(images: Iterable[Image], winner: Image) -> Iterator[Image]:
    """Yield the images that had one of the winner's tags, without it: one image has a tag at a time."""
    for image in images:
        kept = tuple(tag for tag in image.tags if tag not in winner.tags)
        if image.id != winner.id and kept != image.tags:
            yield structs.replace(image, tags=kept)


def _union(before: tuple[_Text, ...], more: Iterable[_Text]) -> tuple[_Text, ...]:
    return tuple(dict.fromkeys((*before, *more)))


def ownerless(layers: Iterable[DiffId], images: Iterable[Image], intents: Iterable[Intent]) -> tuple[DiffId, ...]:
    """Return those of `layers` that no image has and that no pull under way, by its intent, relies on."""
    needed = {layer.diff_id for image in images for layer in image.layers}
    for intent in intents:
        if intent.kind is IntentKind.PULL_IMAGE:
            needed.update(intent.layers)
    return tuple(layer for layer in dict.fromkeys(layers) if layer not in needed)


def unkept(blobs: Iterable[Digest], images: Iterable[Image]) -> tuple[Digest, ...]:
    """Return those of `blobs` that no image keeps."""
    kept = {blob for image in images for blob in image.blobs}
    return tuple(blob for blob in dict.fromkeys(blobs) if blob not in kept)


def claimed_elsewhere(layer_id: DiffId, own: ImageId, images: Iterable[Image], intents: Iterable[Intent]) -> bool:
    """Return whether another image than `own`, or another pull, may have unpacked the layer."""
    return any(layer_id == layer.diff_id for image in images for layer in image.layers) or any(
        intent.id != own and intent.kind is IntentKind.PULL_IMAGE and layer_id in intent.layers for intent in intents
    )
