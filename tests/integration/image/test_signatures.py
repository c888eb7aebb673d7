"""Signatures as they are found: cosign's in a real registry, others in lookaside stores, and liars with too many."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.demo_image import Image, digest
from kernel.contracts.image import SignaturesRequest
from kernel.contracts.oci import Auth, Signature
from kernel.errors import Corrupt, CrispError, FailedPrecondition, Unavailable
from kernel.ids import Digest
from services.image import signatures
from tests.harness.registry import Registry
from tests.harness.signing import CosignKey, attachment
from tests.integration.image.conftest import Call, Worker
from tests.integration.image.lying import Lying, guarded, redirect, reply

MANIFEST = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
LAYER = "application/vnd.dev.cosign.simplesigning.v1+json"


@pytest.fixture
async def signed(workers: Callable[..., object], tmp_path: Path) -> Callable[[str], object]:
    """Makes a worker whose registries.d says `text`, and a store on this host."""
    (tmp_path / "registries.d").mkdir()
    (tmp_path / "store").mkdir()

    async def make(text: str = "") -> Worker:
        (tmp_path / "registries.d" / "test.yaml").write_text(text)
        return await workers(registries_d=str(tmp_path / "registries.d"), lookaside_dirs=(str(tmp_path / "store"),))

    return make


async def found(worker: Worker, image: str, *of: str, **fields: object) -> tuple[Signature, ...]:
    request = SignaturesRequest(reference=image, digests=tuple(map(Digest, of)), **fields)  # type: ignore[arg-type]
    return (await worker.service.signatures(request, Call())).signatures  # type: ignore[arg-type]


def attach(liar: Lying, of: str, *given: Signature, repository: str = "app") -> None:
    manifest, blobs = attachment(*given)
    liar.routes[f"/v2/{repository}/manifests/{signatures.tag_of(Digest(of))}"] = reply(200, manifest, MANIFEST)
    for name, data in blobs.items():
        liar.routes[f"/v2/{repository}/blobs/{name}"] = reply(200, data)


ATTACHED = "default-docker: {use-sigstore-attachments: true}"


async def test_cosigns_are_beside_the_image(signed, registries: Callable[..., Registry], small: Image) -> None:
    worker, registry = await signed(ATTACHED), registries()
    key = CosignKey.make()
    given = [key.cosign(small.digest, name) for name in ("a.example/app", "b.example/app")]
    registry.push(small, "app", "v1")
    registry.attach("app", small.digest, *given)
    image = f"{registry.address}/app:v1"
    assert await found(worker, image, small.digest) == tuple(given)
    assert await found(worker, image, digest(b"other")) == ()
    assert await found(worker, image, digest(b"other"), small.digest) == tuple(given)


async def test_nobody_is_asked_unless_registries_d_says_so(signed, liar: Lying, small: Image) -> None:
    attach(liar, small.digest, CosignKey.make().cosign(small.digest, "x"))
    assert await found(await signed(), f"{liar.address}/app", small.digest) == ()
    assert liar.seen == []


async def test_a_lookaside_is_read_to_its_first_gap(signed, liars: Callable[..., Lying], tmp_path: Path) -> None:
    of = digest(b"x")
    server = liars()
    where = f"/store/team/app@sha256={of.removeprefix('sha256:')}"
    for number, data in ((1, b"one"), (2, b"\0sigstore-json\n{}"), (3, b"three"), (5, b"five")):
        server.routes[f"{where}/signature-{number}"] = reply(200, data)
    worker = await signed(f"docker: {{a.example: {{lookaside: 'http://{server.address}/store/'}}}}")
    assert [one.payload for one in await found(worker, "a.example/team/app:v1", of)] == [b"one", b"three"]
    assert [path for _, path, _ in server.seen] == [f"{where}/signature-{number}" for number in (1, 2, 3, 4)]
    assert await found(worker, "b.example/team/app:v1", of) == ()
    server.routes[f"{where}/signature-1"] = reply(503, b"busy with a secret")
    with pytest.raises(Unavailable, match="503") as caught:
        await found(worker, "a.example/team/app:v1", of)
    assert "secret" not in str(caught.value)


async def test_a_lookaside_may_be_a_folder(signed, tmp_path: Path) -> None:
    of = digest(b"x")
    folder = tmp_path / "store" / "team" / f"app@sha256={of.removeprefix('sha256:')}"
    folder.mkdir(parents=True)
    (folder / "signature-1").write_bytes(b"one")
    for text in ("", f"default-docker: {{lookaside: 'file://{tmp_path}/store'}}"):
        assert [one.payload for one in await found(await signed(text), "a.example/team/app", of)] == [b"one"]
    (folder / "signature-1").write_bytes(b"x" * (signatures.SIZE_LIMIT + 1))
    with pytest.raises(FailedPrecondition, match="larger"):
        await found(await signed(), "a.example/team/app", of)
    (folder / "signature-1").unlink()
    (folder / "signature-1").mkdir()
    with pytest.raises(FailedPrecondition, match="not a plain file"):
        await found(await signed(), "a.example/team/app", of)


async def test_a_private_repository_gives_its_signatures_to_who_may_pull(signed, liar: Lying, small: Image) -> None:
    given = CosignKey.make().cosign(small.digest, "x")
    attach(liar, small.digest, given)
    allowed = f"Basic {b64encode(b'user:pass').decode()}"
    for path, answer in list(liar.routes.items()):
        liar.routes[path] = guarded(answer, allowed, 'Basic realm="x"')
    worker, image = await signed(ATTACHED), f"{liar.address}/app"
    assert await found(worker, image, small.digest, auth=Auth(username="user", password="pass")) == (given,)
    with pytest.raises(CrispError):
        await found(worker, image, small.digest)


async def test_no_secret_comes_back_in_an_error(signed, liars: Callable[..., Lying], small: Image) -> None:
    registry, store = liars(), liars()
    tag = f"/v2/app/manifests/{signatures.tag_of(Digest(small.digest))}"
    auth = Auth(username="user", password="hunter2")
    secret = b64encode(b"user:hunter2").decode()
    body = json.dumps({"errors": [{"code": f"Basic {secret}", "message": f"Basic {secret} hunter2"}]}).encode()
    registry.routes[tag] = guarded(reply(400, body), f"Basic {secret}", 'Basic realm="x"')
    worker = await signed(ATTACHED)
    with pytest.raises(CrispError) as caught:
        await found(worker, f"{registry.address}/app", small.digest, auth=auth)
    assert [headers["Authorization"] for _, _, headers in registry.seen if "Authorization" in headers] == [
        f"Basic {secret}"
    ]
    assert secret not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    where = f"/app@sha256={small.digest.removeprefix('sha256:')}/signature-1"
    store.routes[where] = redirect("ftp://elsewhere.example/?token=hunter2")
    worker = await signed(f"default-docker: {{lookaside: 'http://{store.address}'}}")
    with pytest.raises(CrispError) as caught:
        await found(worker, f"{registry.address}/app", small.digest, auth=auth)
    assert "hunter2" not in str(caught.value)
    assert all("Authorization" not in headers for _, _, headers in store.seen)


async def test_a_mirror_without_signatures_is_passed_over(signed, liars: Callable[..., Lying], small: Image) -> None:
    own, mirror = liars(), liars()
    for one in (own, mirror):
        one.serve(small)
    given = CosignKey.make().cosign(small.digest, "x")
    attach(own, small.digest, given)
    worker = await signed(ATTACHED)
    worker.registries(f'[[registry]]\nlocation = "{own.address}"\n[[registry.mirror]]\nlocation = "{mirror.address}"\n')
    image = f"{own.address}/app:latest"
    resolved = await worker.resolve(image)
    assert await found(worker, image, small.digest) == (given,)
    own.seen.clear()
    await worker.fetch(image, resolved.layers[0])
    assert own.seen == [], "who has the signatures does not decide who is asked for blobs"


async def test_signatures_without_end_are_refused(signed, liar: Lying, small: Image, liars) -> None:
    worker, image = await signed(ATTACHED), f"{liar.address}/app"
    tag = f"/v2/app/manifests/{signatures.tag_of(Digest(small.digest))}"
    layer = {"mediaType": LAYER, "digest": digest(b""), "size": 1, "annotations": {signatures._ANNOTATION: ""}}
    for count in (signatures.MOST + 1, 100_000):
        text = json.dumps({"schemaVersion": 2, "layers": [layer] * count}).encode()
        liar.routes[tag] = reply(200, text, MANIFEST)
        liar.seen.clear()
        with pytest.raises(CrispError):
            await found(worker, image, small.digest)
        assert len(liar.seen) == 1
    endless = liars()
    store = f"/app@sha256={small.digest.removeprefix('sha256:')}/signature-"
    for number in range(1, 1000):
        endless.routes[f"{store}{number}"] = reply(200, str(number).encode())
    worker = await signed(f"default-docker: {{lookaside: 'http://{endless.address}'}}")
    with pytest.raises(FailedPrecondition, match="more signatures"):
        await found(worker, image, small.digest)
    assert len(endless.seen) <= signatures.MOST + 2
    endless.seen.clear()
    for number in range(1, 1000):
        endless.routes[f"{store}{number}"] = reply(200, str(number).encode() * 15_000)
    with pytest.raises(FailedPrecondition, match="more signatures"):
        await found(worker, image, small.digest)
    assert len(endless.seen) < 20


async def test_referrers_are_never_asked_for(signed, liar: Lying, small: Image) -> None:
    worker = await signed(ATTACHED)
    assert await found(worker, f"{liar.address}/app", small.digest) == ()
    assert not [path for _, path, _ in liar.seen if "referrers" in path]


@pytest.mark.parametrize(
    "layer",
    [
        {"digest": "sha256:short"},
        {"annotations": {signatures._ANNOTATION: "%%%"}},
        {"size": 1 << 40},
        {"size": -1},
        {"size": 2},
        {"annotations": {signatures._ANNOTATION: 7}},
    ],
)
async def test_a_malformed_signature_is_refused(signed, liar: Lying, small: Image, layer: dict[str, object]) -> None:
    worker, image = await signed(ATTACHED), f"{liar.address}/app"
    good = {"mediaType": LAYER, "digest": digest(b"{"), "size": 1, "annotations": {signatures._ANNOTATION: "aaaa"}}
    liar.routes[f"/v2/app/blobs/{digest(b'{')}"] = reply(200, b"{")
    text = json.dumps({"schemaVersion": 2, "layers": [{**good, **layer}]}).encode()
    liar.routes[f"/v2/app/manifests/{signatures.tag_of(Digest(small.digest))}"] = reply(200, text, MANIFEST)
    with pytest.raises((Corrupt, FailedPrecondition)):
        await found(worker, image, small.digest)


async def test_what_is_no_signature_is_passed_over(signed, liar: Lying, small: Image) -> None:
    worker, image = await signed(ATTACHED), f"{liar.address}/app"
    layers = [
        {"mediaType": "application/other", "digest": digest(b"x"), "size": 1, "annotations": {}},
        {"mediaType": LAYER, "digest": digest(b"x"), "size": 1},
    ]
    text = json.dumps({"schemaVersion": 2, "layers": layers}).encode()
    liar.routes[f"/v2/app/manifests/{signatures.tag_of(Digest(small.digest))}"] = reply(200, text, MANIFEST)
    assert await found(worker, image, small.digest) == ()


async def test_another_document_than_the_manifest_says_is_refused(signed, liar: Lying, small: Image) -> None:
    worker, image = await signed(ATTACHED), f"{liar.address}/app"
    attach(liar, small.digest, Signature(kind="sigstore", payload=b"good", signature=b"x"))
    liar.routes[f"/v2/app/blobs/{digest(b'good')}"] = reply(200, b"evil")
    with pytest.raises(Corrupt):
        await found(worker, image, small.digest)
