"""Finds images that are not whole on disk any more, hides them from lists and fetches them again; checks all layers.

A layer is missing if storage has dropped it after a failed check, or if it was deleted from outside. The record of the
image stays; the kubelet does not see the image until it is whole, and its own pull repairs it as well.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from kernel.contracts import storage
from kernel.contracts.definition import Nothing
from kernel.contracts.records import Image
from kernel.contracts.storage import Checked, LayerState
from kernel.errors import CrispError, FailedPrecondition
from kernel.formats.reference import parse
from kernel.front.context import Front
from kernel.front.images import pull_flow
from kernel.front.memory.image_memory import PullProgress
from kernel.host.aio import Deadline, keep_trying
from kernel.ids import DiffId

_LOG = logging.getLogger(__name__)
_ASK_SECONDS = 30.0
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFinding:
    """The result of a layer's check, and whether the layer was repaired."""

    layer: DiffId
    images: tuple[str, ...]
    """Names of the images that have it."""
    found: Checked
    repaired: bool = False
    error: str = ""
    """The reason why it could not be repaired."""


async def watch(front: Front) -> None:
    """Repair what a crash of the host damaged.

    Storage checks the layers that are still unverified meanwhile; once it is done, missing layers are fetched.
    """
    try:
        await find_incomplete(front)
        await front.storage.call(storage.SETTLE, Nothing(), deadline=Deadline.after(storage.SETTLE.deadline))
    except CrispError as error:
        _LOG.warning("the check of unverified layers could not be awaited: %s", error)
    await mend_all(front)


async def mend_all(front: Front) -> None:
    """Fetch missing layers, again and again with growing pauses: a registry may be away for a while."""

    async def attempt() -> bool:
        for image in await find_incomplete(front):
            try:
                await again(front, image, Deadline.after(pull_flow.PULL_SECONDS))
                _LOG.info("image %s is whole again", name_of(image))
            except CrispError as error:
                _LOG.warning("image %s has lost layers and cannot be fetched: %s", name_of(image), error)
        return not front.images.incomplete

    await keep_trying(
        attempt, "the search for missing layers", first=_FIRST_PAUSE, longest=_LONGEST_PAUSE, at_once=True
    )


async def find_incomplete(front: Front) -> tuple[Image, ...]:
    """Return the images that lack a layer; from now on they are in no list."""
    before = tuple(front.replica.images.values())  # `present` may lack the layers of an image that is pulled meanwhile
    present = (await front.storage.call(storage.LAYERS, Nothing(), deadline=Deadline.after(_ASK_SECONDS))).layers
    replica = front.replica
    broken = tuple(
        image
        for image in before
        if lacking(image, present) and replica.images.get(image.id) is image and image.id not in replica.intents
    )
    front.images.incomplete = {image.id for image in broken}
    return broken


def lacking(image: Image, present: Iterable[DiffId]) -> bool:
    """Return whether an image lacks a layer. Pure."""
    return not {layer.diff_id for layer in image.layers} <= set(present)


def name_of(image: Image) -> str:
    """Return the name by which people know an image: a tag, else a digest, else its id. Pure."""
    return next(iter((*image.tags, *image.digests, image.id)))


async def again(front: Front, image: Image, deadline: Deadline) -> None:
    """Fetch the missing parts of an image, by one of its digests; raise the first failure if none works."""
    failures: list[CrispError] = []
    for reference in image.digests:
        try:
            found = await pull_flow.pull(front, parse(reference), None, "", PullProgress(), deadline)
        except CrispError as error:
            failures.append(error)
            continue
        if found == image.id:
            return
        failures.append(FailedPrecondition(f"{reference} is another image now"))
    if failures:
        raise failures[0]
    raise FailedPrecondition(
        f"image {name_of(image)} came from no registry", hint="load its archive again, or remove it"
    )


async def check(front: Front, *, repair: bool, deadline: Deadline) -> AsyncIterator[LayerFinding]:
    """Have storage read every layer of every image, and yield a finding for each.

    `repair`: fetch damaged and missing layers again; their findings come last.
    """
    damaged: list[LayerFinding] = []
    for layer in dict.fromkeys(layer.diff_id for image in front.replica.images.values() for layer in image.layers):
        request = storage.CheckRequest(diff_id=layer, drop=repair)
        found = await front.storage.call(storage.CHECK, request, deadline=deadline)
        finding = LayerFinding(layer=layer, images=_having(front, layer), found=found)
        if repair and found.state in (LayerState.DAMAGED, LayerState.MISSING):
            damaged.append(finding)
        else:
            yield finding
    if not damaged:
        return
    errors: dict[str, str] = {}
    for image in await find_incomplete(front):
        try:
            await again(front, image, deadline)
        except CrispError as error:
            errors[name_of(image)] = str(error)
    present = (await front.storage.call(storage.LAYERS, Nothing(), deadline=deadline)).layers
    for finding in damaged:
        reason = "; ".join(errors[name] for name in finding.images if name in errors)
        repaired = finding.layer in present
        yield LayerFinding(
            layer=finding.layer, images=finding.images, found=finding.found, repaired=repaired,
            error="" if repaired else reason,
        )  # fmt: skip


def _having(front: Front, layer: DiffId) -> tuple[str, ...]:
    images = front.replica.images.values()
    return tuple(name_of(image) for image in images if any(layer == had.diff_id for had in image.layers))
