"""The documents that signatures are made over."""

from __future__ import annotations

import json

import pytest

from kernel.errors import InvalidInput
from services.storage.trust import payload

DIGEST = f"sha256:{'1' * 64}"


def document(**changes: object) -> dict[str, object]:
    critical = {
        "type": payload.SIMPLE,
        "image": {"docker-manifest-digest": DIGEST},
        "identity": {"docker-reference": "example.com/app:v1"},
    }
    return {"critical": {**critical, **changes}, "optional": {"creator": "test", "timestamp": 1700000000}}


def test_a_document_says_digest_and_name() -> None:
    claim = payload.read(json.dumps(document()).encode(), payload.SIMPLE)
    assert (claim.digest, claim.reference) == (DIGEST, "example.com/app:v1")


def test_cosign_leaves_optional_empty() -> None:
    given = {**document(type=payload.SIGSTORE), "optional": None}
    assert payload.read(json.dumps(given).encode(), payload.SIGSTORE).digest == DIGEST


@pytest.mark.parametrize(
    "given",
    [
        document(type=payload.SIGSTORE),
        document(image={"docker-manifest-digest": "sha512:1"}),
        document(image={"docker-manifest-digest": DIGEST, "other": "x"}),
        document(image={}),
        document(identity={"docker-reference": 1}),
        document(more="x"),
        {**document(), "more": {}},
        {"critical": document()["critical"], "optional": []},
        {},
        [],
    ],
)
def test_what_is_not_exactly_such_a_document_is_refused(given: object) -> None:
    with pytest.raises(InvalidInput):
        payload.read(json.dumps(given).encode(), payload.SIMPLE)


def test_a_doubled_digest_is_refused() -> None:
    text = json.dumps(document()).replace('"image": {', f'"image": {{"docker-manifest-digest": "{DIGEST}", ', 1)
    with pytest.raises(InvalidInput, match="twice"):
        payload.read(text.encode(), payload.SIMPLE)


def test_a_large_document_is_refused_unread() -> None:
    with pytest.raises(InvalidInput, match="larger"):
        payload.read(b" " * (payload.SIZE_LIMIT + 1), payload.SIMPLE)
