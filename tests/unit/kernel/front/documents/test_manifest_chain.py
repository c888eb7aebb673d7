"""Every link from the digest that was asked for down to the layers: each, forged by itself, is found."""

from __future__ import annotations

import hashlib
import json

import pytest
from msgspec.structs import replace

from kernel.contracts.image import Resolved
from kernel.contracts.oci import Descriptor
from kernel.errors import Corrupt
from kernel.front.documents.manifest_chain import verify
from kernel.ids import Digest

CONFIG = b'{"config": {}}'
LAYER = Descriptor(media_type="application/vnd.oci.image.layer.v1.tar", digest=Digest("sha256:" + "a" * 64), size=7)


def digest_of(data: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def blob(media_type: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest, "size": size}


MANIFEST = json.dumps({
    "schemaVersion": 2,
    "config": blob("c", digest_of(CONFIG), len(CONFIG)),
    "layers": [blob(LAYER.media_type, LAYER.digest, LAYER.size)],
}).encode()  # fmt: skip
INDEX = json.dumps({"schemaVersion": 2, "manifests": [blob("m", digest_of(MANIFEST), len(MANIFEST))]}).encode()
PLAIN = Resolved(
    name="r/n", tag="t", digest=digest_of(MANIFEST), manifest_digest=digest_of(MANIFEST), documents=(MANIFEST,),
    config=CONFIG, layers=(LAYER,),
)  # fmt: skip
OUTER = json.dumps({"schemaVersion": 2, "manifests": [blob("i", digest_of(INDEX), len(INDEX))]}).encode()
OUTEST = json.dumps({"schemaVersion": 2, "manifests": [blob("i", digest_of(OUTER), len(OUTER))]}).encode()
INDEXED = replace(PLAIN, digest=digest_of(INDEX), documents=(INDEX, MANIFEST))
NESTED = replace(PLAIN, digest=digest_of(OUTER), documents=(OUTER, INDEX, MANIFEST))


def test_an_honest_answer_passes() -> None:
    verify(None, PLAIN)
    verify(digest_of(MANIFEST), PLAIN)
    verify(digest_of(INDEX), INDEXED)
    verify(digest_of(OUTER), NESTED)


@pytest.mark.parametrize(
    ("asked", "resolved"),
    [
        pytest.param(digest_of(b"other"), PLAIN, id="another manifest than was asked for"),
        pytest.param(digest_of(MANIFEST), INDEXED, id="an index around the manifest that was asked for"),
        pytest.param(None, replace(PLAIN, digest=digest_of(b"x")), id="a digest of nothing"),
        pytest.param(None, replace(PLAIN, manifest_digest=digest_of(b"x")), id="a manifest digest of nothing"),
        pytest.param(None, replace(INDEXED, documents=(MANIFEST,)), id="an index held back"),
        pytest.param(None, replace(INDEXED, documents=(INDEX, MANIFEST + b" ")), id="another manifest"),
        pytest.param(
            None, replace(INDEXED, documents=(INDEX, INDEX, MANIFEST)), id="an index that is not in the other"
        ),
        pytest.param(None, replace(NESTED, documents=(OUTER, MANIFEST)), id="an index left out"),
        pytest.param(
            None,
            replace(PLAIN, digest=digest_of(OUTEST), documents=(OUTEST, OUTER, INDEX, MANIFEST)),
            id="indexes two levels within an index",
        ),
        pytest.param(None, replace(PLAIN, config=b"{}"), id="another configuration"),
        pytest.param(None, replace(PLAIN, layers=()), id="no layers"),
        pytest.param(None, replace(PLAIN, layers=(replace(LAYER, size=8),)), id="a layer of another size"),
        pytest.param(None, replace(PLAIN, documents=()), id="no documents"),
        pytest.param(
            None,
            replace(PLAIN, documents=(b"[]",), digest=digest_of(b"[]"), manifest_digest=digest_of(b"[]")),
            id="a document that is no manifest",
        ),
    ],
)
def test_a_forged_link_is_found(asked: Digest | None, resolved: Resolved) -> None:
    with pytest.raises(Corrupt):
        verify(asked, resolved)


def test_an_index_that_does_not_list_the_manifest_is_refused() -> None:
    index = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    with pytest.raises(Corrupt, match="does not list"):
        verify(digest_of(index), replace(INDEXED, digest=digest_of(index), documents=(index, MANIFEST)))
