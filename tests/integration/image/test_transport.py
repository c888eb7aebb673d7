"""Redirects and the credentials of a request."""

from __future__ import annotations

import base64

from deploy.demo_image import digest
from kernel.contracts.oci import Auth
from tests.integration.image.conftest import Worker
from tests.integration.image.lying import guarded, redirect, reply

SECRET = "hunter2-do-not-show"
BLOB = b"some bytes of a layer" * 100
PATH = f"/v2/app/blobs/{digest(BLOB)}"
ANN = Auth(username="ann", password=SECRET)
BASIC = f"Basic {base64.b64encode(f'ann:{SECRET}'.encode()).decode()}"


async def test_credentials_do_not_follow_a_redirect(worker: Worker, liars) -> None:
    registry, store = liars(), liars()
    registry.routes[PATH] = guarded(redirect(f"http://{store.address}/blob?sig=1"), BASIC, 'Basic realm="x"')
    store.routes["/blob"] = redirect(f"http://{registry.address}/back")
    registry.routes["/back"] = reply(200, BLOB)
    assert await worker.fetch(f"{registry.address}/app", BLOB, ANN) == BLOB
    assert [("Authorization" in headers) for _, _, headers in registry.seen] == [False, True, False]
    assert all("Authorization" not in headers for _, _, headers in store.seen)
    assert all(headers["Accept-Encoding"] == "identity" for _, _, headers in registry.seen + store.seen)
