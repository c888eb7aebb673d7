"""Liars with too many signatures."""

from __future__ import annotations

import json

import pytest

from deploy.demo_image import Image, digest
from kernel.errors import CrispError, FailedPrecondition
from kernel.ids import Digest
from services.image.signatures import collected, cosign
from tests.integration.image.conftest import ATTACHED, MANIFEST, signatures_of
from tests.integration.image.lying import Lying, reply


async def test_signatures_without_end_are_refused(signed, liar: Lying, small: Image, liars) -> None:
    worker, image = await signed(ATTACHED), f"{liar.address}/app"
    tag = f"/v2/app/manifests/{cosign.tag_of(Digest(small.digest))}"
    layer = {"mediaType": cosign.LAYER, "digest": digest(b""), "size": 1, "annotations": {cosign.ANNOTATION: ""}}
    for count in (collected.MOST + 1, 100_000):
        text = json.dumps({"schemaVersion": 2, "layers": [layer] * count}).encode()
        liar.routes[tag] = reply(200, text, MANIFEST)
        liar.seen.clear()
        with pytest.raises(CrispError):
            await signatures_of(worker, image, small.digest)
        assert len(liar.seen) == 1
    endless = liars()
    store = f"/app@sha256={small.digest.removeprefix('sha256:')}/signature-"
    for number in range(1, 1000):
        endless.routes[f"{store}{number}"] = reply(200, str(number).encode())
    worker = await signed(f"default-docker: {{lookaside: 'http://{endless.address}'}}")
    with pytest.raises(FailedPrecondition, match="more signatures"):
        await signatures_of(worker, image, small.digest)
    assert len(endless.seen) <= collected.MOST + 2
    endless.seen.clear()
    for number in range(1, 1000):
        endless.routes[f"{store}{number}"] = reply(200, str(number).encode() * 15_000)
    with pytest.raises(FailedPrecondition, match="more signatures"):
        await signatures_of(worker, image, small.digest)
    assert len(endless.seen) < 20
