"""The document that a signature is made over: a small JSON object that names a digest and an image. Pure.

Simple signing (containers-signature(5)) and cosign's form of it (SIGNATURE_SPEC.md of cosign) differ in their type
alone. The documents come from registries, so a field that is unknown or doubled is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from kernel.errors import InvalidInput
from kernel.formats import strict_json
from kernel.ids import Digest, digest

SIZE_LIMIT = 64 << 10
"""Most bytes of a document."""
SIMPLE = "atomic container signature"
SIGSTORE = "cosign container image signature"


class _Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    docker_reference: str


class _Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    docker_manifest_digest: str


class _Critical(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    image: _Image
    identity: _Identity


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    critical: _Critical
    optional: dict[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The claim that a signer has signed: a digest, and the name of an image."""

    digest: Digest
    reference: str
    """The name as written; it may be no name at all."""


def read(data: bytes, kind: str) -> Claim:
    """Return the claim of a document of type `kind`; InvalidInput with the reason if it is none."""
    if len(data) > SIZE_LIMIT:
        raise InvalidInput(f"its document is larger than {SIZE_LIMIT} bytes")
    try:
        found = msgspec.convert(strict_json.loads(data), _Document).critical
        if found.type != kind:
            raise InvalidInput(f"its document is of type {found.type[:60]!a}, not {kind!r}")
        return Claim(digest=digest(found.image.docker_manifest_digest), reference=found.identity.docker_reference)
    except (strict_json.NotStrictJson, msgspec.ValidationError) as error:
        raise InvalidInput(f"its document is malformed: {str(error)[:200]!a}") from error
