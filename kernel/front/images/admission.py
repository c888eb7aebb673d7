"""The decisions by the policy for signatures: whether an image may be pulled, and a container made of it.

- The front does not verify signatures, and does not trust the image worker, which a malicious registry may control:
  a signature that it reports counts only if its key does, and one that it withholds can only lead to a refusal.
- The front has followed the digests itself, from the name to the layers that are then fetched: a tag that moves
  meanwhile changes nothing.
- The verdict comes from storage, which has no network.
- Signatures are kept in the image's record: a container is judged by the policy that holds when it is made, without a
  request to a registry.
"""

from __future__ import annotations

import logging

from kernel.contracts import image, storage
from kernel.contracts.oci import Signature
from kernel.contracts.records import Image
from kernel.errors import CrispError, DeadlineExceeded, InvalidInput, Unavailable, Untrusted
from kernel.formats.reference import Reference, parse
from kernel.front.context import Front
from kernel.front.images import image_records
from kernel.host.aio import Deadline
from kernel.ids import Digest, digest

_LOG = logging.getLogger(__name__)
_MOST_NAMES = 32
"""The most names of an image by which it may be accepted if it is requested by id."""


async def at_pull(
    front: Front, reference: Reference, digests: tuple[Digest, ...], resolve: image.ResolveRequest, deadline: Deadline
) -> tuple[Signature, ...]:
    """Return the signatures of an image that may be pulled; raise Untrusted if it may not.

    If the signatures could not be fetched and the image is refused without them, raise the reason of that: a registry
    that was away (Unavailable, DeadlineExceeded) makes the caller try again.
    """
    request = image.SignaturesRequest(
        reference=str(reference), digests=digests, auth=resolve.auth, namespace=resolve.namespace, helped=resolve.helped
    )
    found: tuple[Signature, ...] = ()
    failure: CrispError | None = None
    try:
        found = image_records.kept_signatures(
            (), (await front.image.call(image.SIGNATURES, request, deadline=deadline)).signatures
        )
    except CrispError as error:
        failure = error
    try:
        await _judge(front, reference, resolve.namespace, digests, found, deadline)
    except Untrusted as refusal:
        if failure is None:
            raise
        kind = type(failure) if isinstance(failure, Unavailable | DeadlineExceeded) else Untrusted
        raise kind(f"{refusal.message}; its signatures: {failure.message}", hint=failure.hint) from refusal
    if failure is not None:
        _LOG.warning("image %s is accepted without its signatures: %s", reference, failure)
    return found


async def at_create(front: Front, found: Image, name: str, namespace: str, deadline: Deadline) -> None:
    """Raise Untrusted if no container may be made of an image now. `name` is the name that the user gave."""
    digests = digests_of(found)
    refusal: Untrusted | None = None
    for own in names_of(found, name):
        try:
            return await _judge(front, own, namespace, digests, found.signatures, deadline)
        except Untrusted as error:
            refusal = refusal or error
    assert refusal is not None  # there is at least one name, and it was refused
    raise refusal


def names_of(found: Image, name: str) -> tuple[Reference | None, ...]:
    """Return the names by which an image may be accepted: `name` if the image has that name, otherwise all it has.

    None stands for an image without a name. Pure.
    """
    try:
        reference = parse(name)
    except InvalidInput:
        reference = None  # an id
    own = tuple(map(parse, (*found.tags, *found.digests)))
    if reference is not None and any(_same(reference, one) for one in own):
        return (reference,)
    return own[:_MOST_NAMES] or (None,)


def digests_of(found: Image) -> tuple[Digest, ...]:
    """Return the digests that signatures of an image are made over. Pure.

    They come from its repository digests, which the front has followed down to it: `manifest_digests` holds those of
    archives too, which only the image worker has reported.
    """
    return tuple(dict.fromkeys(digest(name.rpartition("@")[2]) for name in found.digests))


def _same(one: Reference, other: Reference) -> bool:
    if one.digest is not None:
        return (one.name, one.digest) == (other.name, other.digest)
    return other.digest is None and (one.name, one.tag) == (other.name, other.tag)


async def _judge(
    front: Front,
    name: Reference | None,
    namespace: str,
    digests: tuple[Digest, ...],
    signatures: tuple[Signature, ...],
    deadline: Deadline,
) -> None:
    request = storage.JudgeRequest(
        reference=str(name) if name else "", namespace=namespace, digests=digests, signatures=signatures
    )
    await front.storage.call(storage.JUDGE, request, deadline=deadline)
