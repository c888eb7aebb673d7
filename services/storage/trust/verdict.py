"""The child that verifies signatures: a case on standard input, a verdict on standard output, nothing else in reach.

Started by the storage worker as `python -I -m services.storage.trust.verdict FILTER KIND...`. Signatures come from
registries, and parsing them is the dangerous part: it happens here, in an empty root, with no network, no capability
and a filter of system calls, in a process that ends with its one verdict. OpenPGP by Sequoia (pysequoia), keys of
cosign by cryptography; each is imported only where the case needs it. What a signer claims is believed only once the
signature holds, and counts only for the image's own digests and name.
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
"""Reasons in one verdict."""


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """A requirement of the policy: one signature by one of these keys, for this identity."""

    kind: str
    keys: tuple[bytes, ...]
    """Contents of key files."""
    identity: identity.Rule


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be judged."""

    demands: tuple[Demand, ...]
    reference: str
    """The image's name; empty where it has none."""
    digests: tuple[Digest, ...]
    """Of its manifest, and of an index that lists it."""
    signatures: tuple[Signature, ...]


Check = Callable[[Signature], payload.Claim]
"""Verifies one signature; InvalidInput where it does not hold."""


def judge(case: Case, checks: Callable[[Demand], Check]) -> list[str]:
    """Why each demand is not met; an empty text where it is."""
    image = parse_reference(case.reference) if case.reference else None
    return [_judge(case, image, demand, checks) for demand in case.demands]


def _judge(case: Case, image: Reference | None, demand: Demand, checks: Callable[[Demand], Check]) -> str:
    found = [signature for signature in case.signatures if signature.kind == demand.kind]
    if not found:
        return "it has no such signature"
    try:
        check = checks(demand)
    except InvalidInput as error:
        return error.message
    reasons: dict[str, None] = {}
    for signature in found:
        try:
            claim = check(signature)
            if claim.digest not in case.digests:
                raise InvalidInput(f"it is for the digest {claim.digest}")
            if image is None or not identity.matches(demand.identity, image, claim.reference):
                raise InvalidInput(f"it is for {claim.reference[:300]!a}")
        except InvalidInput as error:
            reasons[error.message] = None
        else:
            return ""
    shown = "; ".join(list(reasons)[:_SHOWN]) + ("; ..." if len(reasons) > _SHOWN else "")
    return f"none of its {len(found)} signatures counts: {shown}"


def simple_check(keyring: Keyring) -> Check:
    """Simple signing: an OpenPGP message that holds the document."""
    return lambda signature: payload.read(keyring.open(signature.payload), payload.SIMPLE)


def sigstore_check(keys: tuple[PublicKey, ...]) -> Check:
    """Cosign: the document, and a bare signature of it."""

    def check(signature: Signature) -> payload.Claim:
        if not any(key.verifies(signature.signature, signature.payload) for key in keys):
            raise InvalidInput("it was not made with a key of the policy")
        return payload.read(signature.payload, payload.SIGSTORE)

    return check


def _checks(kinds: list[str]) -> Callable[[Demand], Check]:
    """Imports what the kinds need, while there is still a file system to import from."""
    if SIMPLE in kinds:
        from services.storage.trust import sequoia
    if SIGSTORE in kinds:
        from services.storage.trust import sigstore

    def check(demand: Demand) -> Check:
        if demand.kind == SIMPLE:
            return simple_check(sequoia.read(demand.keys))
        return sigstore_check(sigstore.read(demand.keys))

    return check


def main() -> None:
    """The child's whole life."""
    seccomp, kinds = bytes.fromhex(sys.argv[1]), sys.argv[2:]
    checks = _checks(kinds)
    decoder = msgspec.msgpack.Decoder(Case)
    confine.enter(empty=True)
    confine.drop(0, seccomp)
    with open(0, "rb", buffering=0) as source:
        verdict = judge(decoder.decode(source.read()), checks)
    os.write(1, msgspec.json.encode(verdict))
    os._exit(0)


if __name__ == "__main__":
    main()
