"""The child that verifies signatures: a request on standard input, a verdict on standard output, nothing else in reach.

Started by the storage worker as `python -I -m services.storage.trust.verdict FILTER KIND...`. Signatures come from
registries, and parsing them is the dangerous part: it happens here, in an empty root, with no network, no capability
and a filter of system calls, in a process that ends with its one verdict. OpenPGP is verified by Sequoia (pysequoia),
cosign's signatures by cryptography; each is imported only if the request needs it. A signer's claim counts only if the
signature verifies, and only for the image's own digests and name.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from kernel.contracts.oci import Signature
from kernel.errors import InvalidInput
from kernel.formats.reference import Reference
from kernel.formats.reference import parse as parse_reference
from kernel.ids import Digest
from services.storage.confined import confine
from services.storage.trust import identity, payload

if TYPE_CHECKING:
    from services.storage.trust.sequoia import Keyring
    from services.storage.trust.sigstore import PublicKey

SIMPLE = "simple"
SIGSTORE = "sigstore"
_SHOWN = 3
"""The most reasons in one verdict."""


class SignatureRequirement(msgspec.Struct, frozen=True, kw_only=True):
    """A requirement of the policy with its keys read: one signature by one of these keys, for this identity."""

    kind: str
    keys: tuple[bytes, ...]
    """Contents of key files."""
    identity: identity.Rule


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """An image, its signatures, and the requirements that they must meet."""

    requirements: tuple[SignatureRequirement, ...]
    reference: str
    """The image's name; empty if it has none."""
    digests: tuple[Digest, ...]
    """The digests of its manifest, and of an index that lists it."""
    signatures: tuple[Signature, ...]


Check = Callable[[Signature], payload.Claim]
"""Verifies one signature and returns its claim; InvalidInput if it does not verify."""


Checks = Callable[[SignatureRequirement], Check]


def judge(request: Request, checks: Checks) -> list[str]:
    """Return why each requirement is not met; an empty text if it is."""
    image = parse_reference(request.reference) if request.reference else None
    return [_judge(request, image, requirement, checks) for requirement in request.requirements]


def _judge(request: Request, image: Reference | None, requirement: SignatureRequirement, checks: Checks) -> str:
    found = [signature for signature in request.signatures if signature.kind == requirement.kind]
    if not found:
        return "it has no such signature"
    try:
        check = checks(requirement)
    except InvalidInput as error:
        return error.message
    reasons: dict[str, None] = {}
    for signature in found:
        try:
            claim = check(signature)
            if claim.digest not in request.digests:
                raise InvalidInput(f"it is for the digest {claim.digest}")
            if image is None or not identity.matches(requirement.identity, image, claim.reference):
                raise InvalidInput(f"it is for {claim.reference[:300]!a}")
        except InvalidInput as error:
            reasons[error.message] = None
        else:
            return ""
    shown = "; ".join(list(reasons)[:_SHOWN]) + ("; ..." if len(reasons) > _SHOWN else "")
    return f"none of its {len(found)} signatures counts: {shown}"


def simple_check(keyring: Keyring) -> Check:
    """Return the check of simple signing: an OpenPGP message that contains the document."""
    return lambda signature: payload.read(keyring.open(signature.payload), payload.SIMPLE)


def sigstore_check(keys: tuple[PublicKey, ...]) -> Check:
    """Return the check of cosign: the document, and a bare signature of it."""

    def check(signature: Signature) -> payload.Claim:
        if not any(key.verifies(signature.signature, signature.payload) for key in keys):
            raise InvalidInput("it was not made with a key of the policy")
        return payload.read(signature.payload, payload.SIGSTORE)

    return check


def _checks(kinds: list[str]) -> Checks:
    """Import the libraries for these kinds, while there is still a file system to import from."""
    if SIMPLE in kinds:
        from services.storage.trust import sequoia
    if SIGSTORE in kinds:
        from services.storage.trust import sigstore

    def check(requirement: SignatureRequirement) -> Check:
        if requirement.kind == SIMPLE:
            return simple_check(sequoia.read(requirement.keys))
        return sigstore_check(sigstore.read(requirement.keys))

    return check


def main() -> None:
    """Run the child from its start to its end."""
    seccomp, kinds = bytes.fromhex(sys.argv[1]), sys.argv[2:]
    checks = _checks(kinds)
    decoder = msgspec.msgpack.Decoder(Request)
    confine.enter(empty=True)
    confine.drop(0, seccomp)
    with open(0, "rb", buffering=0) as source:
        verdict = judge(decoder.decode(source.read()), checks)
    os.write(1, msgspec.json.encode(verdict))
    os._exit(0)


if __name__ == "__main__":
    main()
