"""Whether an image may be pulled, and whether a container may be made of it: by the policy for signatures.

The front does not judge, and believes nobody who could be talked into something. The image worker brings signatures
and may be taken over by a registry: what it brings is worth no more than the keys behind it, and what it keeps back
only refuses. The digests are those that the front has followed itself, from the name to the layers that are then
fetched, so a tag that moves meanwhile changes nothing. The verdict is storage's, which no network reaches. Signatures
are kept in the image's record, so that a container is judged by the policy that holds when it is made, and no registry
is asked for that.
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
"""Of an image, by which it may be accepted where it is asked for by id."""


async def at_pull(
    front: Front, reference: Reference, digests: tuple[Digest, ...], asked: image.ResolveRequest, deadline: Deadline
) -> tuple[Signature, ...]:
    """The signatures of an image that may be pulled; Untrusted where it may not."""
    request = image.SignaturesRequest(
        reference=str(reference), digests=digests, auth=asked.auth, namespace=asked.namespace, helped=asked.helped
    )
    found: tuple[Signature, ...] = ()
    trouble: CrispError | None = None
    try:
        found = image_records.kept_signatures(
            (), (await front.image.call(image.SIGNATURES, request, deadline=deadline)).signatures
        )
    except CrispError as error:
        trouble = error
    try:
        await _judge(front, reference, asked.namespace, digests, found, deadline)
    except Untrusted as refusal:
        if trouble is None:
            raise
        # it might have been accepted with them: where the registry was only away, the caller tries again
        kind = type(trouble) if isinstance(trouble, Unavailable | DeadlineExceeded) else Untrusted
        raise kind(f"{refusal.message}; its signatures: {trouble.message}", hint=trouble.hint) from refusal
    if trouble is not None:
        _LOG.warning("image %s is accepted without its signatures: %s", reference, trouble)
    return found


async def at_create(front: Front, found: Image, asked: str, namespace: str, deadline: Deadline) -> None:
    """Untrusted where no container may be made of an image now; `asked` is what its user calls it."""
    digests = digests_of(found)
    refusal: Untrusted | None = None
    for name in names_of(found, asked):
        try:
            return await _judge(front, name, namespace, digests, found.signatures, deadline)
        except Untrusted as error:
            refusal = refusal or error
    assert refusal is not None  # there is one name at least, and it was refused
    raise refusal


def names_of(found: Image, asked: str) -> tuple[Reference | None, ...]:
    """The names by which an image may be accepted: the one that was asked for, where it is its own; else all it has.

    None stands for an image without a name. Pure.
    """
    try:
        reference = parse(asked)
    except InvalidInput:
        reference = None  # an id
    own = tuple(map(parse, (*found.tags, *found.digests)))
    if reference is not None and any(_same(reference, name) for name in own):
        return (reference,)
    return own[:_MOST_NAMES] or (None,)


def digests_of(found: Image) -> tuple[Digest, ...]:
    """What signatures of an image are made over. Pure.

    From its repository digests, which the front has followed down to it: `manifest_digests` has those of archives too,
    for which there is the image worker's word alone.
    """
    return tuple(dict.fromkeys(digest(name.rpartition("@")[2]) for name in found.digests))


def _same(asked: Reference, name: Reference) -> bool:
    if asked.digest is not None:
        return (asked.name, asked.digest) == (name.name, name.digest)
    return name.digest is None and (asked.name, asked.tag) == (name.name, name.tag)


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
