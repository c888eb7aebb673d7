"""The manifest of an index for a platform (image-spec, image-index.md). Pure."""

from __future__ import annotations

from collections.abc import Callable

from kernel.contracts.oci import Descriptor
from kernel.errors import Corrupt, FailedPrecondition
from services.image.documents import manifest, media_types, platforms
from services.image.documents.manifest import Index, Manifest
from services.image.documents.platforms import Platform
from services.image.documents.untrusted import quoted, verify

_NESTED = 1
"""The most levels of indexes within an index."""


def descend(
    top: Manifest | Index,
    platform: Platform,
    what: str,
    fetch: Callable[[Descriptor], tuple[bytes, str]],
    *,
    foreign: bool = False,
) -> tuple[Manifest, tuple[bytes, ...]]:
    """Return the manifest for `platform`, and the documents below `top` that lead to it, its own the last one.

    `fetch` returns the bytes that a descriptor names and their content type; they are verified here. `foreign` as in
    `manifest.parse`.
    """
    documents: list[bytes] = []
    while isinstance(top, Index):
        entry = choose(top, platform, what, nested=len(documents) < _NESTED)
        data, content_type = fetch(entry)
        verify(data, entry, what)
        top = manifest.parse(data, content_type, what, foreign=foreign)
        if isinstance(top, Index) is not (entry.media_type in media_types.INDEXES):
            raise Corrupt(f"{what}: {entry.digest} is not the {quoted(entry.media_type)} that its index names")
        documents.append(data)
    return top, tuple(documents)


def choose(index: Index, platform: Platform, what: str, *, nested: bool = False) -> Descriptor:
    """Return the entry for `platform`, the first of several that fit equally well. FailedPrecondition if none fits.

    `nested`: whether it may be an index again.
    """
    wanted = platforms.runnable(platform)
    best: tuple[int, Descriptor] | None = None
    for entry in index.entries:
        if entry.platform is None:
            rank = len(wanted)
        elif entry.platform in wanted:
            rank = wanted.index(entry.platform)
        else:
            continue
        if best is None or rank < best[0]:
            best = (rank, entry.blob)
    if best is None:
        offered = sorted({str(entry.platform) for entry in index.entries if entry.platform})
        raise FailedPrecondition(f"{what}: no manifest for {platform}; it has {', '.join(offered)[:500] or 'none'}")
    if best[1].media_type in media_types.INDEXES and not nested:
        raise FailedPrecondition(f"{what}: indexes are nested more than {_NESTED} level deep")
    if best[1].media_type not in media_types.ACCEPT:
        raise FailedPrecondition(f"{what}: the entry for {platform} is no image manifest: {quoted(best[1].media_type)}")
    return best[1]
