"""Where signatures are looked for, and who may see them."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable

import pytest

from deploy.demo_image import Image
from kernel.contracts.oci import Auth
from kernel.errors import CrispError
from kernel.ids import Digest
from services.image.signatures import cosign
from tests.harness.signing import CosignKey
from tests.integration.image.conftest import ATTACHED, attach, signatures_of
from tests.integration.image.lying import Lying, guarded, redirect, reply


async def test_nobody_is_asked_unless_registries_d_says_so(signed, liar: Lying, small: Image) -> None:
    attach(liar, small.digest, CosignKey.make().cosign(small.digest, "x"))
    assert await signatures_of(await signed(), f"{liar.address}/app", small.digest) == ()
    assert liar.seen == []


async def test_a_private_repository_gives_its_signatures_to_who_may_pull(signed, liar: Lying, small: Image) -> None:
    given = CosignKey.make().cosign(small.digest, "x")
    attach(liar, small.digest, given)
    allowed = f"Basic {b64encode(b'user:pass').decode()}"
    for path, answer in list(liar.routes.items()):
        liar.routes[path] = guarded(answer, allowed, 'Basic realm="x"')
    worker, image = await signed(ATTACHED), f"{liar.address}/app"
    assert await signatures_of(worker, image, small.digest, auth=Auth(username="user", password="pass")) == (given,)
    with pytest.raises(CrispError):
        await signatures_of(worker, image, small.digest)


async def test_no_secret_comes_back_in_an_error(signed, liars: Callable[..., Lying], small: Image) -> None:
    registry, store = liars(), liars()
    tag = f"/v2/app/manifests/{cosign.tag_of(Digest(small.digest))}"
    auth = Auth(username="user", password="hunter2")
    secret = b64encode(b"user:hunter2").decode()
    body = json.dumps({"errors": [{"code": f"Basic {secret}", "message": f"Basic {secret} hunter2"}]}).encode()
    registry.routes[tag] = guarded(reply(400, body), f"Basic {secret}", 'Basic realm="x"')
    worker = await signed(ATTACHED)
    with pytest.raises(CrispError) as caught:
        await signatures_of(worker, f"{registry.address}/app", small.digest, auth=auth)
    assert [headers["Authorization"] for _, _, headers in registry.seen if "Authorization" in headers] == [
        f"Basic {secret}"
    ]
    assert secret not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    where = f"/app@sha256={small.digest.removeprefix('sha256:')}/signature-1"
    store.routes[where] = redirect("ftp://elsewhere.example/?token=hunter2")
    worker = await signed(f"default-docker: {{lookaside: 'http://{store.address}'}}")
    with pytest.raises(CrispError) as caught:
        await signatures_of(worker, f"{registry.address}/app", small.digest, auth=auth)
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
    assert await signatures_of(worker, image, small.digest) == (given,)
    own.seen.clear()
    await worker.fetch(image, resolved.layers[0])
    assert own.seen == [], "who has the signatures does not decide who is asked for blobs"


async def test_referrers_are_never_asked_for(signed, liar: Lying, small: Image) -> None:
    worker = await signed(ATTACHED)
    assert await signatures_of(worker, f"{liar.address}/app", small.digest) == ()
    assert not [path for _, path, _ in liar.seen if "referrers" in path]
