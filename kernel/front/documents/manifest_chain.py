"""The digests from what a request names down to an image's configuration and layers, each verified. Pure.

The image worker talks to registries, and one of them may have taken it over: it must not be able to answer with
another image than the requested one. So the front follows the digests itself (OCI image-spec: image-index.md,
manifest.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import pairwise

import msgspec

from kernel.contracts.image import Resolved
from kernel.contracts.oci import Descriptor
from kernel.errors import Corrupt
from kernel.formats import strict_json
from kernel.ids import Digest

CHECKPOINT_KEYS = ("org.criu.checkpoint.container.name", "io.kubernetes.cri-o.annotations.checkpoint.name")
"""Annotations of a manifest whose image is a checkpoint, the newer one first. The value is the container's name."""
_INDEXES = 2
"""The most indexes above a manifest: one, and one within it."""


class _Blob(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    size: int
    media_type: str


class _Index(msgspec.Struct, frozen=True):
    manifests: list[_Blob]


class _Annotated(msgspec.Struct, frozen=True):
    layers: list[object] = []
    annotations: dict[str, str] = {}


class _Manifest(msgspec.Struct, frozen=True):
    config: _Blob
    layers: list[_Blob]


def checkpoint_of(documents: Iterable[bytes]) -> str:
    """Return the name of the container that an image is a checkpoint of; empty for an ordinary image."""
    for document in documents:
        try:
            parsed = msgspec.json.decode(document, type=_Annotated)
        except msgspec.DecodeError:  # a configuration, or a manifest of another shape
            continue
        for key in CHECKPOINT_KEYS if parsed.layers else ():
            if name := parsed.annotations.get(key):
                return name
    return ""


def verify(requested: Digest | None, resolved: Resolved) -> None:
    """Raise Corrupt unless each document of `resolved` has the digest that the one above it names.

    The first one has the digest `requested`, if the request names one; the last one lists the layers of `resolved`.
    """
    try:
        _verify(requested, resolved)
    except (strict_json.NotStrictJson, msgspec.ValidationError) as error:
        raise Corrupt(f"a manifest cannot be read: {error}") from error


def _verify(requested: Digest | None, resolved: Resolved) -> None:
    *indexes, manifest = resolved.documents or (b"",)
    top = indexes[0] if indexes else manifest
    if len(indexes) > _INDEXES:
        raise Corrupt(f"more than {_INDEXES} indexes, one within the other")
    _same("what was named", resolved.digest, _digest(top))
    _same("the manifest", resolved.manifest_digest, _digest(manifest))
    if requested is not None:
        _same("what was asked for", requested, _digest(top))
    for index, below in pairwise(resolved.documents):
        listed = msgspec.convert(strict_json.loads(index), _Index).manifests
        if _digest(below) not in (entry.digest for entry in listed):
            raise Corrupt(f"the index does not list manifest {_digest(below)}")
    parsed = msgspec.convert(strict_json.loads(manifest), _Manifest)
    _same("the configuration", Digest(parsed.config.digest), _digest(resolved.config))
    layers = tuple(
        Descriptor(media_type=layer.media_type, digest=Digest(layer.digest), size=layer.size) for layer in parsed.layers
    )
    if layers != resolved.layers:
        raise Corrupt("the layers are not those of the manifest")


def _digest(data: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def _same(what: str, claimed: Digest, found: Digest) -> None:
    if claimed != found:
        raise Corrupt(f"{what} is {claimed[:80]!r}, but what came has digest {found}")
