"""Cosign's signatures, in the image's own repository. Runs in a thread of the worker's pool.

An image's signatures have the tag `sha256-<hex>.sig` (cosign's SIGNATURE_SPEC.md): a manifest whose layers are the
signed documents, with the signatures in annotations. Referrers are not requested.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

import msgspec

from kernel.contracts.oci import Descriptor, Signature
from kernel.errors import Corrupt, FailedPrecondition, InvalidInput
from kernel.formats import strict_json
from kernel.ids import Digest, digest, digest_hex
from services.image.registry.distribution import Repository
from services.image.signatures.collected import MOST, SIZE_LIMIT, Collected

LAYER = "application/vnd.dev.cosign.simplesigning.v1+json"
ANNOTATION = "dev.cosignproject.cosign/signature"


class _Layer(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = {}


class _Manifest(msgspec.Struct, frozen=True):
    layers: list[_Layer]


def tag_of(of: Digest) -> str:
    """Return the tag of a digest's signatures."""
    return f"sha256-{digest_hex(of)}.sig"


def collect(repository: Repository, of: Digest, collected: Collected) -> None:
    """Collect the signatures of a digest. NotFound if its repository has none."""
    what = f"signatures of {of}"
    data, _, _ = repository.manifest(tag_of(of), what)
    payloads: dict[Digest, bytes] = {}
    for blob, signature in parse(data, repository.source_of(what)):
        if blob.digest not in payloads:
            payloads[blob.digest] = repository.small_blob(blob, SIZE_LIMIT, what)
        collected.add(Signature(kind="sigstore", payload=payloads[blob.digest], signature=signature))


def parse(data: bytes, what: str) -> list[tuple[Descriptor, bytes]]:
    """Return the signed documents that a manifest of cosign's lists, each with its signature. Pure."""
    try:
        layers = msgspec.convert(strict_json.loads(data), _Manifest).layers
    except (strict_json.NotStrictJson, msgspec.ValidationError) as error:
        raise Corrupt(f"{what}: the manifest cannot be parsed: {str(error)[:200]!a}") from error
    if len(layers) > MOST:
        raise FailedPrecondition(f"{what}: {len(layers)} of them, more than the {MOST} that crisp looks at")
    return list(_signed(layers, what))


def _signed(layers: list[_Layer], what: str) -> Iterator[tuple[Descriptor, bytes]]:
    for layer in layers:
        if layer.media_type != LAYER or ANNOTATION not in layer.annotations:
            continue  # another kind of layer
        try:
            signature = base64.b64decode(layer.annotations[ANNOTATION], validate=True)
            blob = Descriptor(media_type=LAYER, digest=digest(layer.digest), size=layer.size)
        except (binascii.Error, InvalidInput) as error:
            raise Corrupt(f"{what}: one of them is malformed") from error
        if not 0 < layer.size <= SIZE_LIMIT or len(signature) > SIZE_LIMIT:
            raise FailedPrecondition(f"{what}: one of them is larger than {SIZE_LIMIT} bytes")
        yield blob, signature
