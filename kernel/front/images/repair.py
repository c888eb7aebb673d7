"""Images that are not whole on disk any more: found, hidden from lists, and fetched again; and checks of all layers.

A layer is missing after storage dropped one that failed its check, or after somebody deleted it. The record of the
image stays; the kubelet does not see the image until it is whole, and its own pull of it mends it as well as ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from kernel.contracts import storage
from kernel.contracts.contract import Nothing
from kernel.contracts.records import Image
from kernel.contracts.storage import Checked, LayerState
from kernel.errors import CrispError, FailedPrecondition
from kernel.formats.reference import parse
from kernel.front.context import Front
from kernel.front.images import pull_flow
from kernel.front.memory.image_memory import PullProgress
from kernel.host.aio import Deadline
from kernel.ids import DiffId

_LOG = logging.getLogger(__name__)
_ASK_SECONDS = 30.0
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFinding:
    """What a check found of a layer, and what became of it."""

    layer: DiffId
    images: tuple[str, ...]
    found: Checked
    repaired: bool = False
    error: str = ""


async def watch(front: Front) -> None:
    """Mend what a crash of the host left: suspect layers are checked by storage beside this, then asked for again."""
    try:
        await find_incomplete(front)
        await front.storage.call(storage.SETTLE, Nothing(), deadline=Deadline.after(storage.SETTLE.deadline))
    except CrispError as error:
        _LOG.warning("suspect layers could not be waited for: %s", error)
    await mend_all(front)


async def mend_all(front: Front) -> None:
    """Fetch what is missing, again and again with longer pauses: a registry may be away for a while."""
    pause = _FIRST_PAUSE
    while True:
        try:
            broken = await find_incomplete(front)
        except CrispError as error:
            _LOG.warning("missing layers could not be looked for: %s", error)
            broken = ()
        for image in broken:
            try:
                await again(front, image, Deadline.after(pull_flow.PULL_SECONDS))
                _LOG.info("image %s is whole again", name_of(image))
            except CrispError as error:
                _LOG.warning("image %s has lost layers and cannot be fetched: %s", name_of(image), error)
        if not front.images.incomplete:
            return
        await asyncio.sleep(pause)  # not a wait for an event: a registry does not tell when it is back
        pause = min(pause * 2, _LONGEST_PAUSE)


async def find_incomplete(front: Front) -> tuple[Image, ...]:
    """The images that lack a layer; from now on they are in no list."""
    before = tuple(front.replica.images.values())  # one that is pulled meanwhile may have layers that are not told yet
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
    """Whether an image lacks a layer. Pure."""
    return not {layer.diff_id for layer in image.layers} <= set(present)


def name_of(image: Image) -> str:
    """How people know it. Pure."""
    return next(iter((*image.tags, *image.digests, image.id)))


async def again(front: Front, image: Image, deadline: Deadline) -> None:
    """Fetch what an image lacks, by one of its digests. The first failure is told where none works."""
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
    """Have every layer of every image read; damaged ones fetched again where that is wanted."""
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
        why = "; ".join(errors[name] for name in finding.images if name in errors)
        repaired = finding.layer in present
        yield LayerFinding(
            layer=finding.layer, images=finding.images, found=finding.found, repaired=repaired,
            error="" if repaired else why,
        )  # fmt: skip


def _having(front: Front, layer: DiffId) -> tuple[str, ...]:
    images = front.replica.images.values()
    return tuple(name_of(image) for image in images if any(layer == had.diff_id for had in image.layers))
