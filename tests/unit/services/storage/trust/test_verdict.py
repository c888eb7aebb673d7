"""From signatures to a verdict, with keys of paper."""

from __future__ import annotations

import json

from kernel.contracts.oci import Signature
from kernel.errors import InvalidInput
from kernel.ids import Digest
from services.storage.trust import identity, payload, verdict
from services.storage.trust.verdict import SignatureRequirement
from tests.harness.signing import SIMPLE, document

ONE, TWO, THREE = (Digest(f"sha256:{number * 64}") for number in "123")
NAME = "example.com/app:v1"


def paper_checks(requirement: SignatureRequirement) -> verdict.Check:
    """A signature holds where its bytes are one of the requirement's keys."""
    if b"broken" in requirement.keys:
        raise InvalidInput("a key of the policy cannot be read")

    def check(signature: Signature) -> payload.Claim:
        if signature.signature not in requirement.keys:
            raise InvalidInput("it was not made with a key of the policy")
        return payload.read(signature.payload, payload.SIMPLE)

    return check


def signed(by: bytes, digest: str = ONE, reference: str = NAME, kind: str = "simple") -> Signature:
    return Signature(kind=kind, payload=document(digest, reference, SIMPLE), signature=by)  # type: ignore[arg-type]


def requirement(*keys: bytes, rule: identity.Rule = identity.DEFAULT, kind: str = "simple") -> SignatureRequirement:
    return SignatureRequirement(kind=kind, keys=keys, identity=rule)


def judged(*requirements: SignatureRequirement, signatures: list[Signature], reference: str = NAME) -> list[str]:
    request = verdict.Request(
        requirements=requirements, reference=reference, digests=(ONE, TWO), signatures=tuple(signatures)
    )
    return verdict.judge(request, paper_checks)


def test_one_good_signature_among_bad_ones_is_enough() -> None:
    found = [signed(b"b"), signed(b"a", THREE), signed(b"a", reference="example.com/app:v2"), signed(b"a", TWO)]
    assert judged(requirement(b"a"), signatures=found) == [""]


def test_every_requirement_is_met_or_says_why_not() -> None:
    assert judged(requirement(b"a"), requirement(b"b"), signatures=[signed(b"a"), signed(b"b")]) == ["", ""]
    met, missing = judged(requirement(b"a"), requirement(b"b"), signatures=[signed(b"a")])
    assert met == ""
    assert missing == "none of its 1 signatures counts: it was not made with a key of the policy"


def test_a_signature_for_another_digest_does_not_count() -> None:
    (reason,) = judged(requirement(b"a"), signatures=[signed(b"a", THREE)])
    assert f"it is for the digest {THREE}" in reason


def test_a_signature_for_another_name_does_not_count() -> None:
    (reason,) = judged(requirement(b"a"), signatures=[signed(b"a", reference="evil.example/app:v1")])
    assert "it is for 'evil.example/app:v1'" in reason


def test_an_image_without_a_name_meets_no_requirement() -> None:
    (reason,) = judged(requirement(b"a", rule=identity.MatchRepository()), signatures=[signed(b"a")], reference="")
    assert "it is for" in reason


def test_signatures_of_another_kind_do_not_count() -> None:
    assert judged(requirement(b"a"), signatures=[signed(b"a", kind="sigstore")]) == ["it has no such signature"]
    assert judged(requirement(b"a"), signatures=[]) == ["it has no such signature"]


def test_a_key_that_does_not_read_meets_nothing() -> None:
    assert judged(requirement(b"broken", b"a"), signatures=[signed(b"a")]) == ["a key of the policy cannot be read"]


def test_no_more_reasons_are_told_than_are_read() -> None:
    found = [signed(b"a", f"sha256:{number:064}") for number in range(100)]
    (reason,) = judged(requirement(b"a"), signatures=found)
    assert reason.startswith("none of its 100 signatures counts: ")
    assert reason.count("it is for the digest") == 3
    assert reason.endswith("; ...")


def test_what_a_signature_says_is_text_for_people() -> None:
    given = json.loads(document(ONE, "x\n\x1b[31m" + "y" * 5000, SIMPLE))
    odd = Signature(kind="simple", payload=json.dumps(given).encode(), signature=b"a")
    (reason,) = judged(requirement(b"a"), signatures=[odd])
    assert reason.isprintable()
    assert len(reason) < 500
