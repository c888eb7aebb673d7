"""Manifests, indexes and the choice of a platform: bytes in, checked values out. Pure.

Read are OCI image manifests and indexes and Docker's schema 2 (image-spec manifest.md, image-index.md). What is
no container image, or could be read as two things at once, is refused: schema 1, artifacts, indexes more than one
level deep within an index, foreign, encrypted or unknown layers. `urls` and `data` of a descriptor are never looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from kernel.contracts.oci import Descriptor
from kernel.errors import Corrupt, FailedPrecondition, InvalidInput
from kernel.formats import strict_json
from kernel.ids import Digest, digest

_T = TypeVar("_T")
SIZE_LIMIT = 4 << 20
"""The most bytes of a manifest, an index or an image configuration."""
_LAYER_LIMIT = 500
_INDEX_LIMIT = 1000

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPT = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX)
LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = f"{LAYER_TAR}+gzip"
LAYER_ZSTD = f"{LAYER_TAR}+zstd"

_INDEXES = (OCI_INDEX, DOCKER_INDEX)
_NESTED = 1
"""Levels of indexes within an index."""
_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_LAYERS = (
    LAYER_TAR, LAYER_GZIP, LAYER_ZSTD, _DOCKER_LAYER, f"{_DOCKER_LAYER}.gzip", f"{_DOCKER_LAYER}.zstd",
)  # fmt: skip
_FOREIGN = (
    f"{_NONDISTRIBUTABLE}", f"{_NONDISTRIBUTABLE}+gzip", f"{_NONDISTRIBUTABLE}+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
)  # fmt: skip
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
_GENERIC = ("", "application/json", "application/octet-stream", "text/plain", "binary/octet-stream")
"""Content types that say nothing about what a manifest is."""


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


class _RootFs(msgspec.Struct, frozen=True):
    type: str
    diff_ids: list[str]


class _Config(msgspec.Struct, frozen=True):
    rootfs: _RootFs
    os: str = ""
    architecture: str = ""


_NAMES = frozenset({
    "schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "fsLayers", "digest", "size",
    "platform", "annotations", "architecture", "variant",
})  # fmt: skip


_CONFIG_NAMES = frozenset({"rootfs", "type", "diff_ids", "os", "architecture"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What an image must run on."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A manifest in an index."""

    blob: Descriptor
    platform: Platform | None
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Manifests of one image for several platforms."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One image: its configuration and its layers, lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


def parse(data: bytes, content_type: str, what: str, *, foreign: bool = False) -> Manifest | Index:
    """Read a manifest or an index that was sent as `content_type`; `what` is its name in errors.

    `foreign`: whether layers are taken that registries need not have; from elsewhere they never are.

    FailedPrecondition for what crisp does not run, Corrupt for what is malformed.
    """
    if len(data) > SIZE_LIMIT:
        raise Corrupt(f"{what}: larger than {SIZE_LIMIT} bytes")
    sent_as = content_type.partition(";")[0].strip().lower()
    if sent_as.startswith(_SCHEMA_1):
        raise FailedPrecondition(f"{what}: a manifest of Docker's schema 1 is not supported", hint="push it anew")
    document = _convert(data, _Document, what, _NAMES)
    if document.schema_version == 1 or document.fs_layers is not None:
        raise FailedPrecondition(f"{what}: a manifest of Docker's schema 1 is not supported", hint="push it anew")
    if document.schema_version != 2:
        raise Corrupt(f"{what}: schemaVersion is {document.schema_version}, not 2")
    kind = _kind(document, sent_as, what)
    if kind in _INDEXES:
        return _index(document, what)
    return _manifest(document, what, foreign=foreign)


def descend(
    top: Manifest | Index,
    platform: Platform,
    what: str,
    fetch: Callable[[Descriptor], tuple[bytes, str]],
    *,
    foreign: bool = False,
) -> tuple[Manifest, tuple[bytes, ...]]:
    """The manifest for `platform`, and the documents below `top` that lead to it, itself the last one.

    `fetch` brings what a descriptor names, and its content type; that it is that is checked here.
    """
    documents: list[bytes] = []
    while isinstance(top, Index):
        entry = choose(top, platform, what, nested=len(documents) < _NESTED)
        data, content_type = fetch(entry)
        verify(data, entry, what)
        top = parse(data, content_type, what, foreign=foreign)
        if isinstance(top, Index) is not (entry.media_type in _INDEXES):
            raise Corrupt(f"{what}: {entry.digest} is not the {_text(entry.media_type)} that its index says")
        documents.append(data)
    return top, tuple(documents)


def choose(index: Index, platform: Platform, what: str, *, nested: bool = False) -> Descriptor:
    """The manifest for `platform`; the first of several equally good. FailedPrecondition where there is none.

    `nested`: whether it may be an index again.
    """
    wanted = _acceptable(platform)
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
    if best[1].media_type in _INDEXES and not nested:
        raise FailedPrecondition(f"{what}: indexes are nested more than {_NESTED} level deep")
    if best[1].media_type not in ACCEPT:
        raise FailedPrecondition(f"{what}: the entry for {platform} is no image manifest: {_text(best[1].media_type)}")
    return best[1]


def verify(data: bytes, blob: Descriptor, what: str) -> None:
    """Corrupt unless the bytes are those that a descriptor means."""
    if len(data) != blob.size or f"sha256:{hashlib.sha256(data).hexdigest()}" != blob.digest:
        raise Corrupt(f"{what}: the {len(data)} bytes that came are not blob {blob.digest} of {blob.size} bytes")


def check_config(config: bytes, layers: int, platform: Platform | None, what: str) -> None:
    """Corrupt unless the configuration lists one diff id for each of the manifest's layers; FailedPrecondition where it
    says that it is for other machines than `platform`: None where an index has said which machines it is for, as some
    configurations say it wrong."""
    found = _convert(config, _Config, f"{what}: configuration", _CONFIG_NAMES)
    if found.rootfs.type != "layers":
        raise Corrupt(f"{what}: configuration: rootfs.type is {_text(found.rootfs.type)}, not layers")
    diff_ids = [_digest(text, f"{what}: configuration: rootfs.diff_ids") for text in found.rootfs.diff_ids]
    if len(diff_ids) != layers:
        raise Corrupt(f"{what}: {layers} layers but the configuration lists {len(diff_ids)} diff ids")
    if platform and (found.os or platform.os, found.architecture or platform.architecture) != (
        platform.os,
        platform.architecture,
    ):
        raise FailedPrecondition(
            f"{what}: it is made for {_text(f'{found.os}/{found.architecture}')}, not for {platform}"
        )


def parse_platform(text: str) -> Platform:
    """`os/architecture[/variant]` of the configuration file; InvalidInput where it is not that."""
    parts = text.split("/")
    if not 2 <= len(parts) <= 3 or not all(part.isascii() and part.isalnum() for part in parts):
        raise InvalidInput(f"image.platform {text!r} is not os/architecture[/variant]")
    return Platform(os=parts[0], architecture=parts[1], variant=parts[2] if len(parts) == 3 else "")


def host_platform(machine: str) -> Platform:
    """The platform of a Linux host from what `uname` calls its machine."""
    known = {
        "x86_64": ("amd64", ""),
        "aarch64": ("arm64", "v8"),
        "armv7l": ("arm", "v7"),
        "armv6l": ("arm", "v6"),
        "armv5l": ("arm", "v5"),
        "i686": ("386", ""),
        "i386": ("386", ""),
        "mips64": ("mips64le", ""),
        "loongarch64": ("loong64", ""),
    }
    architecture, variant = known.get(machine, (machine, ""))
    return Platform(os="linux", architecture=architecture, variant=variant)


def _acceptable(platform: Platform) -> list[Platform]:
    """Platforms whose programs run on `platform`, best first."""
    lowest = {"arm": 5, "amd64": 1, "arm64": 8}.get(platform.architecture)
    variants = [platform.variant]
    digits = platform.variant.removeprefix("v")
    if lowest is not None and platform.variant == f"v{digits}" and digits.isascii() and digits.isdigit():
        variants += [f"v{level}" for level in range(int(digits[:2]) - 1, lowest - 1, -1)]
    if platform.architecture in ("amd64", "arm64") and not platform.variant:
        variants.append(f"v{lowest}")  # no variant and the lowest mean the same
    variants += [""] if "" not in variants else []
    return [Platform(os=platform.os, architecture=platform.architecture, variant=variant) for variant in variants]


def _kind(document: _Document, sent_as: str, what: str) -> str:
    """The media type, where all that names it agrees."""
    named = document.media_type
    if sent_as not in _GENERIC:
        if named and named != sent_as:
            raise Corrupt(f"{what}: sent as {_text(sent_as)} but says it is {_text(named)}")
        named = sent_as
    if document.manifests is not None and (document.layers is not None or document.config is not None):
        raise Corrupt(f"{what}: an index and a manifest at once")
    if not named:
        named = OCI_INDEX if document.manifests is not None else OCI_MANIFEST
    if named not in ACCEPT:
        raise FailedPrecondition(f"{what}: media type {_text(named)} is not supported")
    return named


def _index(document: _Document, what: str) -> Index:
    if document.manifests is None:
        raise Corrupt(f"{what}: an index without manifests")
    if len(document.manifests) > _INDEX_LIMIT:
        raise FailedPrecondition(f"{what}: an index of more than {_INDEX_LIMIT} manifests")
    return Index(
        entries=tuple(
            Entry(
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
    if document.config.media_type not in _CONFIGS:
        kind = document.artifact_type or document.config.media_type
        raise FailedPrecondition(f"{what}: not a container image but {_text(kind)}")
    if len(document.layers) > _LAYER_LIMIT:
        raise FailedPrecondition(f"{what}: more than {_LAYER_LIMIT} layers")
    for layer in document.layers:
        if layer.media_type.endswith("+encrypted"):
            raise FailedPrecondition(f"{what}: its layers are encrypted, which crisp does not support")
        if layer.media_type in _FOREIGN and not foreign:
            raise FailedPrecondition(
                f"{what}: a layer is foreign, not to be had from every registry ({_text(layer.media_type)})",
                hint="image.foreign_layers of the configuration lets the registry be asked for it",
            )
        if layer.media_type not in (*_LAYERS, *_FOREIGN):
            raise FailedPrecondition(f"{what}: a layer of media type {_text(layer.media_type)} is not supported")
    config = _descriptor(document.config, f"{what}: config")
    if config.size > SIZE_LIMIT:
        raise FailedPrecondition(f"{what}: the configuration is larger than {SIZE_LIMIT} bytes")
    layers = (_descriptor(layer, f"{what}: layers[{at}]") for at, layer in enumerate(document.layers))
    return Manifest(config=config, layers=tuple(layers))


def _descriptor(found: _Descriptor, what: str) -> Descriptor:
    if not 0 <= found.size < 1 << 63:
        raise Corrupt(f"{what}: size is negative or beyond all measure")
    return Descriptor(media_type=found.media_type, digest=_digest(found.digest, what), size=found.size)


def _platform(found: _Platform | None) -> Platform | None:
    if found is None or not (found.os or found.architecture):
        return None
    return Platform(os=found.os, architecture=found.architecture, variant=found.variant)


def _digest(text: str, what: str) -> Digest:
    try:
        return digest(text)
    except InvalidInput as error:
        raise Corrupt(f"{what}: {_text(text)} is not a sha256 digest") from error


def _convert(data: bytes, kind: type[_T], what: str, names: frozenset[str] = frozenset()) -> _T:
    try:
        return msgspec.convert(strict_json.loads(data, names=names), kind)
    except strict_json.NotStrictJson as error:
        raise Corrupt(f"{what}: {error}") from error
    except msgspec.ValidationError as error:
        raise Corrupt(f"{what}: {_text(str(error)).strip(chr(39))}") from error


def _text(text: str) -> str:
    """Words of a registry as an error may repeat them."""
    return ascii(text[:120])
