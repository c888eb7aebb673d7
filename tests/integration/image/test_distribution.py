"""Manifests and indexes that lie."""

from __future__ import annotations

import base64
import json

import pytest

from deploy.demo_image import INDEX, Image, digest
from kernel.contracts.oci import Auth
from kernel.errors import (
    Corrupt,
    CrispError,
    FailedPrecondition,
    Unavailable,
)
from kernel.front.documents.manifest_chain import verify
from tests.integration.image.conftest import Worker
from tests.integration.image.lying import Lying, reply

SECRET = "hunter2-do-not-show"
BLOB = b"some bytes of a layer" * 100
PATH = f"/v2/app/blobs/{digest(BLOB)}"
ANN = Auth(username="ann", password=SECRET)
BASIC = f"Basic {base64.b64encode(f'ann:{SECRET}'.encode()).decode()}"


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"body": b'{"schemaVersion":1}'}, FailedPrecondition, "schema 1"),
        ({"body": b"<html>"}, Corrupt, "not JSON"),
        ({"body": b"[" * 100_000}, Corrupt, "deeply"),
        ({"body": b" " * (5 << 20)}, Unavailable, "longer than"),
        ({"type": "application/vnd.oci.image.index.v1+json"}, Corrupt, "sent as"),
        ({"claim": "sha256:" + "0" * 64}, Corrupt, "manifest that came"),
        ({"config": b"{}"}, Corrupt, "not blob|but the manifest gives"),
    ],
)  # fmt: skip
async def test_a_bad_manifest(
    worker: Worker, liar: Lying, small: Image, change: dict, error: type[CrispError], reason: str
) -> None:
    if "config" in change:
        liar.routes[f"/v2/app/blobs/{small.id}"] = reply(200, change["config"])
    else:
        headers = {"Content-Type": change.get("type", small.media_type)}
        headers |= {"Docker-Content-Digest": change["claim"]} if "claim" in change else {}
        liar.routes["/v2/app/manifests/latest"] = reply(200, change.get("body", small.manifest), headers)
    with pytest.raises(error, match=reason) as caught:
        await worker.resolve(f"{liar.address}/app")
    assert liar.address in str(caught.value)
    assert worker.files() == []


async def test_another_manifest_than_the_digest_asked_for(worker: Worker, liar: Lying, docker_small: Image) -> None:
    liar.routes[f"/v2/app/manifests/{docker_small.digest}"] = liar.routes["/v2/app/manifests/latest"]
    with pytest.raises(Corrupt, match="requested"):
        await worker.resolve(f"{liar.address}/app@{docker_small.digest}")


@pytest.mark.parametrize("levels", [1, 2, 3])
async def test_an_index_within_an_index(worker: Worker, liar: Lying, small: Image, levels: int) -> None:
    """One level deep, as BuildKit and others push them; deeper, where it could go round in a circle, no more."""
    kind, below, below_kind = INDEX, small.manifest, small.media_type
    for level in range(levels):
        entry = {"mediaType": below_kind, "digest": digest(below), "size": len(below)}
        if level == 0:
            entry["platform"] = {"os": "linux", "architecture": "amd64"}
        below = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}).encode()
        below_kind = kind
        liar.routes[f"/v2/app/manifests/{digest(below)}"] = reply(200, below, {"Content-Type": kind})
    liar.routes["/v2/app/manifests/latest"] = liar.routes[f"/v2/app/manifests/{digest(below)}"]
    if levels == 3:
        with pytest.raises(FailedPrecondition, match="nested more than 1 level"):
            await worker.resolve(f"{liar.address}/app")
        return
    found = await worker.resolve(f"{liar.address}/app")
    assert (found.digest, found.manifest_digest, len(found.documents)) == (digest(below), small.digest, levels + 1)
    verify(digest(below), found)  # as the front does


async def test_an_entry_that_is_not_what_its_index_says(worker: Worker, liar: Lying, small: Image) -> None:
    """A manifest where an index was announced."""
    entry = {"mediaType": INDEX, "digest": small.digest, "size": len(small.manifest)}
    outer = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    liar.routes["/v2/app/manifests/latest"] = reply(200, outer, {"Content-Type": INDEX})
    with pytest.raises(Corrupt, match="is not the"):
        await worker.resolve(f"{liar.address}/app")
