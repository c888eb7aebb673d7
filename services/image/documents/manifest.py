"""Manifests and indexes: bytes in, checked values out. Pure.

Accepted are OCI image manifests and indexes and Docker's schema 2 (image-spec, manifest.md and image-index.md).
Rejected is whatever is no container image or could be read in two ways: schema 1, artifacts, indexes more than one
level deep within an index, foreign, encrypted or unknown layers. `urls` and `data` of a descriptor are never used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from kernel.contracts.oci import Descriptor
from kernel.errors import Corrupt, FailedPrecondition
from services.image.documents import media_types
from services.image.documents.platforms import Platform
from services.image.documents.untrusted import checked_digest, convert, quoted

SIZE_LIMIT = 4 << 20
"""The most bytes of a manifest, an index or an image configuration."""
_LAYER_LIMIT = 500
_INDEX_LIMIT = 1000
_NAMES = frozenset({
    "schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "fsLayers", "digest", "size",
    "platform", "annotations", "architecture", "variant",
})  # fmt: skip


class _Platform(msgspec.Struct, frozen=True):
    os: str = ""
    architecture: str = ""
    variant: str = ""


class _Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    size: int
    media_type: str
    platform: _Platform | None = None
    annotations: dict[str, str] | None = None


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    """A manifest or an index: which one it is follows from the fields it has."""

    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    fs_layers: object = msgspec.field(name="fsLayers", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """A manifest in an index."""

    blob: Descriptor
    platform: Platform | None
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """The manifests of one image for several platforms."""

    entries: tuple[IndexEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One image: its configuration and its layers, the lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


def parse(data: bytes, content_type: str, what: str, *, foreign: bool = False) -> Manifest | Index:
    """Return the manifest or index that was sent as `content_type`; `what` names it in errors.

    `foreign`: whether to accept layers that registries need not have; they are then fetched from the registry like
    others. FailedPrecondition for an image that crisp does not run, Corrupt for a malformed document.
    """
    if len(data) > SIZE_LIMIT:
        raise Corrupt(f"{what}: larger than {SIZE_LIMIT} bytes")
    sent_as = content_type.partition(";")[0].strip().lower()
    if sent_as.startswith(media_types.SCHEMA_1):
        raise _schema_1(what)
    document = convert(data, _Document, what, _NAMES)
    if document.schema_version == 1 or document.fs_layers is not None:
        raise _schema_1(what)
    if document.schema_version != 2:
        raise Corrupt(f"{what}: schemaVersion is {document.schema_version}, not 2")
    if _media_type(document, sent_as, what) in media_types.INDEXES:
        return _index(document, what)
    return _manifest(document, what, foreign=foreign)


def _schema_1(what: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{what}: a manifest of Docker's schema 1 is not supported", hint="push the image again with a newer client"
    )


def _media_type(document: _Document, sent_as: str, what: str) -> str:
    """Return the media type. Corrupt if the content type, the document and its fields disagree about it."""
    named = document.media_type
    if sent_as not in media_types.GENERIC:
        if named and named != sent_as:
            raise Corrupt(f"{what}: sent as {quoted(sent_as)} but its mediaType is {quoted(named)}")
        named = sent_as
    if document.manifests is not None and (document.layers is not None or document.config is not None):
        raise Corrupt(f"{what}: an index and a manifest at once")
    if not named:
        named = media_types.OCI_INDEX if document.manifests is not None else media_types.OCI_MANIFEST
    if named not in media_types.ACCEPT:
        raise FailedPrecondition(f"{what}: media type {quoted(named)} is not supported")
    return named


def _index(document: _Document, what: str) -> Index:
    if document.manifests is None:
        raise Corrupt(f"{what}: an index without manifests")
    if len(document.manifests) > _INDEX_LIMIT:
        raise FailedPrecondition(f"{what}: an index of more than {_INDEX_LIMIT} manifests")
    return Index(
        entries=tuple(
            IndexEntry(
                blob=_descriptor(found, f"{what}: manifests[{at}]"),
                platform=_platform(found.platform),
                annotations=found.annotations or {},
            )
            for at, found in enumerate(document.manifests)
        )
    )


def _manifest(document: _Document, what: str, *, foreign: bool) -> Manifest:
    if document.config is None or document.layers is None:
        raise Corrupt(f"{what}: a manifest without config or layers")
    if document.config.media_type not in media_types.CONFIGS:
        kind = document.artifact_type or document.config.media_type
        raise FailedPrecondition(f"{what}: not a container image but {quoted(kind)}")
    if len(document.layers) > _LAYER_LIMIT:
        raise FailedPrecondition(f"{what}: more than {_LAYER_LIMIT} layers")
    for layer in document.layers:
        _check_layer(layer.media_type, what, foreign=foreign)
    config = _descriptor(document.config, f"{what}: config")
    if config.size > SIZE_LIMIT:
        raise FailedPrecondition(f"{what}: the configuration is larger than {SIZE_LIMIT} bytes")
    layers = (_descriptor(layer, f"{what}: layers[{at}]") for at, layer in enumerate(document.layers))
    return Manifest(config=config, layers=tuple(layers))


def _check_layer(media_type: str, what: str, *, foreign: bool) -> None:
    if media_type.endswith(media_types.ENCRYPTED):
        raise FailedPrecondition(f"{what}: its layers are encrypted, which crisp does not support")
    if media_type in media_types.FOREIGN_LAYERS and not foreign:
        raise FailedPrecondition(
            f"{what}: a layer is foreign, so a registry need not have it ({quoted(media_type)})",
            hint="image.foreign_layers of the configuration lets it be fetched from the registry",
        )
    if media_type not in (*media_types.LAYERS, *media_types.FOREIGN_LAYERS):
        raise FailedPrecondition(f"{what}: a layer of media type {quoted(media_type)} is not supported")


def _descriptor(found: _Descriptor, what: str) -> Descriptor:
    if not 0 <= found.size < 1 << 63:
        raise Corrupt(f"{what}: size is negative or more than 63 bits")
    return Descriptor(media_type=found.media_type, digest=checked_digest(found.digest, what), size=found.size)


def _platform(found: _Platform | None) -> Platform | None:
    if found is None or not (found.os or found.architecture):
        return None
    return Platform(os=found.os, architecture=found.architecture, variant=found.variant)
