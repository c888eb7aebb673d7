"""Cosign's signatures in a registry, well-formed and not."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from deploy.demo_image import Image, digest
from kernel.contracts.oci import Signature
from kernel.errors import Corrupt, FailedPrecondition
from kernel.ids import Digest
from services.image.signatures import cosign
from tests.harness.registry import Registry
from tests.harness.signing import CosignKey
from tests.integration.image.conftest import ATTACHED, MANIFEST, attach, signatures_of
from tests.integration.image.lying import Lying, reply

LAYER = cosign.LAYER


async def test_cosigns_are_beside_the_image(signed, registries: Callable[..., Registry], small: Image) -> None:
    worker, registry = await signed(ATTACHED), registries()
    key = CosignKey.make()
    given = [key.cosign(small.digest, name) for name in ("a.example/app", "b.example/app")]
    registry.push(small, "app", "v1")
    registry.attach("app", small.digest, *given)
    image = f"{registry.address}/app:v1"
    assert await signatures_of(worker, image, small.digest) == tuple(given)
    assert await signatures_of(worker, image, digest(b"other")) == ()
    assert await signatures_of(worker, image, digest(b"other"), small.digest) == tuple(given)


@pytest.mark.parametrize(
    "layer",
    [
        {"digest": "sha256:short"},
        {"annotations": {cosign.ANNOTATION: "%%%"}},
        {"size": 1 << 40},
        {"size": -1},
        {"size": 2},
        {"annotations": {cosign.ANNOTATION: 7}},
    ],
)
async def test_a_malformed_signature_is_refused(signed, liar: Lying, small: Image, layer: dict[str, object]) -> None:
    worker, image = await signed(ATTACHED), f"{liar.address}/app"
    good = {"mediaType": LAYER, "digest": digest(b"{"), "size": 1, "annotations": {cosign.ANNOTATION: "aaaa"}}
    liar.routes[f"/v2/app/blobs/{digest(b'{')}"] = reply(200, b"{")
    text = json.dumps({"schemaVersion": 2, "layers": [{**good, **layer}]}).encode()
    liar.routes[f"/v2/app/manifests/{cosign.tag_of(Digest(small.digest))}"] = reply(200, text, MANIFEST)
    with pytest.raises((Corrupt, FailedPrecondition)):
        await signatures_of(worker, image, small.digest)


async def test_what_is_no_signature_is_passed_over(signed, liar: Lying, small: Image) -> None:
    worker, image = await signed(ATTACHED), f"{liar.address}/app"
    layers = [
        {"mediaType": "application/other", "digest": digest(b"x"), "size": 1, "annotations": {}},
        {"mediaType": LAYER, "digest": digest(b"x"), "size": 1},
    ]
    text = json.dumps({"schemaVersion": 2, "layers": layers}).encode()
    liar.routes[f"/v2/app/manifests/{cosign.tag_of(Digest(small.digest))}"] = reply(200, text, MANIFEST)
    assert await signatures_of(worker, image, small.digest) == ()


async def test_another_document_than_the_manifest_says_is_refused(signed, liar: Lying, small: Image) -> None:
    worker, image = await signed(ATTACHED), f"{liar.address}/app"
    attach(liar, small.digest, Signature(kind="sigstore", payload=b"good", signature=b"x"))
    liar.routes[f"/v2/app/blobs/{digest(b'good')}"] = reply(200, b"evil")
    with pytest.raises(Corrupt):
        await signatures_of(worker, image, small.digest)
