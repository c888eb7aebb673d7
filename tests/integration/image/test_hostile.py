"""Registries that lie, stall, break off, redirect and ask for credentials that are not theirs."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import urllib.parse

import pytest

from deploy.demo_image import Image, digest
from kernel.contracts.contract import Nothing
from kernel.contracts.image import DropRequest
from kernel.contracts.oci import Auth, Descriptor
from kernel.errors import (
    Corrupt,
    CrispError,
    DeadlineExceeded,
    FailedPrecondition,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from kernel.host.aio import Deadline
from tests.integration.image.conftest import Call, Worker
from tests.integration.image.lying import Answer, Handler, Lying, guarded, redirect, reply, stalling

SECRET = "hunter2-do-not-show"
BLOB = b"some bytes of a layer" * 100
PATH = f"/v2/app/blobs/{digest(BLOB)}"
ANN = Auth(username="ann", password=SECRET)
BASIC = f"Basic {base64.b64encode(f'ann:{SECRET}'.encode()).decode()}"


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"2710\r\n" + b"x" * 10000 + b"\r\n")


def raw(data: bytes) -> Answer:
    def answer(handler: Handler) -> None:
        handler.wfile.write(data)
        handler.close_connection = True

    return answer


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (reply(200, BLOB[:-1], length=len(BLOB)), Unavailable, "broke off|closed"),
        (reply(200, BLOB[:-1], length=None), Unavailable, "broke off after 2099 of 2100 bytes"),
        (reply(200, b"x" * len(BLOB)), Corrupt, "have digest sha256:"),
        (reply(200, BLOB + b"x"), Corrupt, "sends 2101 bytes"),
        (reply(200, BLOB + b"x", length=None), Corrupt, "more than"),
        (endless, Corrupt, "more than"),
        (reply(200, BLOB, {"Content-Encoding": "gzip"}), Unavailable, "encoded answer"),
        (reply(206, BLOB), Unavailable, "206"),
        (reply(204), Unavailable, "204"),
        (reply(403, b'{"errors":[{"code":"DENIED"}]}'), PermissionDenied, r"403 Forbidden \(DENIED\)"),
        (reply(429), ResourceExhausted, "too many requests"),
        (reply(503, b"<html>"), Unavailable, "503 Service Unavailable"),
        (reply(799, b"[" * 10000), Unavailable, "799"),
        (redirect("file:///etc/shadow"), Unavailable, "neither http nor https"),
        (redirect("http://169.254.169.254/latest/"), Unavailable, "link to this machine"),
        (redirect(PATH), Unavailable, "more than 5 redirects"),
        (redirect(""), Unavailable, "redirects"),
        (reply(200, BLOB, {f"X-{n}": "y" for n in range(200)}), Unavailable, "HTTP"),
        (reply(200, BLOB, {"X-Long": "y" * 70000}), Unavailable, "HTTP"),
        (raw(b"SSH-2.0-OpenSSH\r\n"), Unavailable, "HTTP|closed"),
        (raw(b""), Unavailable, "closed"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxxx"), Unavailable, "Content-Len"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nxxxxxx"), Unavailable, "Content-Length"),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), Unavailable, "broke off|HTTP"),
    ],
)  # fmt: skip
async def test_a_bad_blob_leaves_nothing(
    worker: Worker, liar: Lying, answer: Answer, error: type[CrispError], reason: str
) -> None:
    liar.routes[PATH] = answer
    with pytest.raises(error, match=reason) as caught:
        await worker.fetch(f"{liar.address}/app", BLOB)
    assert liar.address in str(caught.value)
    assert worker.files() == []
    liar.routes[PATH] = reply(200, BLOB)
    assert await worker.fetch(f"{liar.address}/app", BLOB) == BLOB


async def test_a_stalled_download_ends_after_the_progress_timeout(workers, liar: Lying) -> None:
    worker: Worker = await workers(progress_timeout=0.5)
    liar.routes[PATH] = stalling(BLOB[:100], len(BLOB))
    with pytest.raises(Unavailable, match="stalled") as caught:
        await worker.fetch(f"{liar.address}/app", BLOB)
    assert liar.address in str(caught.value)
    assert worker.files() == []


async def test_the_callers_deadline_ends_a_resolve(worker: Worker, liar: Lying) -> None:
    liar.routes["/v2/app/manifests/latest"] = stalling(b"{", 100)
    before = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="app"):
        await worker.resolve(f"{liar.address}/app", call=Call(Deadline.after(0.5)))
    await worker.service.close()  # its thread has been woken too
    assert time.monotonic() - before < 3


async def test_a_download_that_nobody_waits_for_goes_on_until_it_is_dropped(workers, liar: Lying) -> None:
    worker: Worker = await workers(progress_timeout=20.0)
    liar.routes[PATH] = stalling(BLOB[:100], len(BLOB))
    with pytest.raises(DeadlineExceeded):
        await worker.fetch(f"{liar.address}/app", BLOB, call=Call(Deadline.after(0.5)))
    assert len(worker.files()) == 1
    awaited = Call(Deadline.after(15))
    again = asyncio.create_task(worker.fetch(f"{liar.address}/app", BLOB, call=awaited))
    async with asyncio.timeout(5):
        while not awaited.told:
            await asyncio.sleep(0.01)
    drop = DropRequest(digests=(digest(BLOB),))
    await worker.service.drop(drop, Call())  # type: ignore[arg-type]
    assert not again.done()
    again.cancel()
    await asyncio.wait([again])
    await worker.service.drop(drop, Call())  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        while worker.files():
            await asyncio.sleep(0.01)
    assert [path for _, path, _ in liar.seen] == [PATH]


async def test_anothers_failure_is_not_ours(workers, liars, small: Image) -> None:
    """One source stalls and fails; who joined with another source gets the blob from its own."""
    worker: Worker = await workers(progress_timeout=1.0)
    bad, good = liars(), liars()
    bad.routes[PATH] = stalling(b"x", len(BLOB))
    good.routes[PATH] = reply(200, BLOB)
    first = Call()
    failing = asyncio.create_task(worker.fetch(f"{bad.address}/app", BLOB, call=first))
    async with asyncio.timeout(5):
        while not first.told:
            await asyncio.sleep(0.01)
    assert await worker.fetch(f"{good.address}/app", BLOB) == BLOB
    with pytest.raises(Unavailable):
        await failing


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"body": b'{"schemaVersion":1}'}, FailedPrecondition, "schema 1"),
        ({"body": b"<html>"}, Corrupt, "not JSON"),
        ({"body": b"[" * 100_000}, Corrupt, "deeply"),
        ({"body": b" " * (5 << 20)}, Unavailable, "longer than"),
        ({"type": "application/vnd.oci.image.index.v1+json"}, Corrupt, "sent as"),
        ({"claim": "sha256:" + "0" * 64}, Corrupt, "manifest that came"),
        ({"config": b"{}"}, Corrupt, "not blob|where the manifest says"),
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
    with pytest.raises(Corrupt, match="asked for"):
        await worker.resolve(f"{liar.address}/app@{docker_small.digest}")


async def test_an_index_within_an_index(worker: Worker, liar: Lying) -> None:
    kind = "application/vnd.oci.image.index.v1+json"
    inner = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    entry = {"mediaType": kind, "digest": digest(inner), "size": len(inner),
             "platform": {"os": "linux", "architecture": "amd64"}}  # fmt: skip
    outer = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    liar.routes["/v2/app/manifests/latest"] = reply(200, outer, {"Content-Type": kind})
    with pytest.raises(FailedPrecondition, match="no image manifest"):
        await worker.resolve(f"{liar.address}/app")


async def test_credentials_do_not_follow_a_redirect(worker: Worker, liars) -> None:
    registry, store = liars(), liars()
    registry.routes[PATH] = guarded(redirect(f"http://{store.address}/blob?sig=1"), BASIC, 'Basic realm="x"')
    store.routes["/blob"] = redirect(f"http://{registry.address}/back")
    registry.routes["/back"] = reply(200, BLOB)
    assert await worker.fetch(f"{registry.address}/app", BLOB, ANN) == BLOB
    assert [("Authorization" in headers) for _, _, headers in registry.seen] == [False, True, False]
    assert all("Authorization" not in headers for _, _, headers in store.seen)
    assert all(headers["Accept-Encoding"] == "identity" for _, _, headers in registry.seen + store.seen)


class Tokens:
    """A token server: hands out `token` to whom it knows."""

    def __init__(self, liar: Lying, token: str = "good-token") -> None:
        self.token = token
        self.asked: list[tuple[str, str, str]] = []
        self.answer: Answer = reply(200, json.dumps({"token": token, "expires_in": 300}).encode())
        self.liar = liar
        liar.routes["/token"] = self

    def __call__(self, handler: Handler) -> None:
        body = handler.form() if handler.command == "POST" else ""
        self.asked.append((handler.path, handler.headers.get("Authorization", ""), body))
        self.answer(handler)

    def guard(self, registry: Lying, host: str = "") -> None:
        """Let the registry want this server's token."""
        challenge = f'Bearer realm="http://{host or self.liar.address}/token",service="reg",scope="repository:all:*"'
        for path, answer in list(registry.routes.items()):
            if path.startswith("/v2/"):
                registry.routes[path] = guarded(answer, f"Bearer {self.token}", challenge)


async def test_bearer_tokens_with_and_without_credentials(worker: Worker, liar: Lying, liars, small: Image) -> None:
    tokens = Tokens(liars())
    tokens.guard(liar)
    found = await worker.resolve(f"{liar.address}/app")
    await worker.fetch(found.name, found.layers[0])
    await worker.resolve(f"{liar.address}/app", ANN)
    assert [authorization for _, authorization, _ in tokens.asked] == ["", BASIC]  # the first token was kept
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(tokens.asked[0][0]).query)
    assert query == {"service": ["reg"], "scope": ["repository:app:pull"]}  # our own scope, not the registry's


async def test_identity_and_registry_tokens(worker: Worker, liar: Lying, liars) -> None:
    tokens = Tokens(liars())
    tokens.guard(liar)
    await worker.resolve(f"{liar.address}/app", Auth(identity_token="refresh-me"))
    ((path, authorization, body),) = tokens.asked
    assert (path, authorization) == ("/token", "")
    form = urllib.parse.parse_qs(body)
    assert form["grant_type"] == ["refresh_token"]
    assert form["refresh_token"] == ["refresh-me"]
    await worker.resolve(f"{liar.address}/app", Auth(registry_token="good-token"))
    assert len(tokens.asked) == 1
    with pytest.raises(Unauthenticated, match="refused"):
        await worker.resolve(f"{liar.address}/app", Auth(registry_token="other-token"))


async def test_a_token_that_expired_is_fetched_anew(worker: Worker, liar: Lying, liars, small: Image) -> None:
    tokens = Tokens(liars())
    tokens.guard(liar)
    await worker.resolve(f"{liar.address}/app")
    liar.serve(small)
    tokens.token = "new-token"
    tokens.answer = reply(200, b'{"access_token":"new-token"}')
    tokens.guard(liar)
    await worker.resolve(f"{liar.address}/app")
    assert len(tokens.asked) == 2


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (reply(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}'), Unauthenticated, "token server.*refused"),
        (reply(200, b"{}"), Unavailable, "no usable token"),
        (reply(200, b'{"token":"a\\r\\nX: y"}'), Unavailable, "no usable token"),
        (reply(200, b"[" * 100_000), Unavailable, "deeply"),
        (reply(200, b" " * (2 << 20)), Unavailable, "longer"),
        (reply(200, b'{"token":"x"}', {"Content-Encoding": "gzip"}), Unavailable, "encoded"),
        (redirect("http://127.0.0.1:1/"), Unavailable, "redirects"),
    ],
)
async def test_a_bad_token_server(
    worker: Worker, liar: Lying, liars, answer: Answer, error: type[CrispError], reason: str
) -> None:
    tokens = Tokens(liars())
    tokens.guard(liar)
    tokens.answer = answer
    with pytest.raises(error, match=reason) as caught:
        await worker.resolve(f"{liar.address}/app", ANN)
    assert tokens.liar.address in str(caught.value)
    assert SECRET not in str(caught.value)


async def test_a_token_server_elsewhere_gets_no_credentials(worker: Worker, liar: Lying, liars) -> None:
    tokens = Tokens(liars())
    port = tokens.liar.server_address[1]
    tokens.guard(liar, f"127.0.0.2:{port}")
    with pytest.raises(Unauthenticated, match="of another domain"):
        await worker.resolve(f"{liar.address}/app", ANN)
    assert not tokens.asked


async def test_a_body_with_our_secret_is_not_repeated(worker: Worker, liar: Lying) -> None:
    echo = json.dumps({"errors": [{"code": SECRET, "message": SECRET}]}).encode()
    liar.routes["/v2/app/manifests/latest"] = guarded(reply(400, echo), BASIC, 'Basic realm="x"')
    with pytest.raises(Unavailable, match="400 Bad Request") as caught:
        await worker.resolve(f"{liar.address}/app", ANN)
    assert SECRET not in str(caught.value)


async def test_bad_requests_are_refused(worker: Worker) -> None:
    with pytest.raises(CrispError, match="sha256"):
        await worker.fetch("x.example/y", Descriptor(media_type="x", digest="sha256:../x", size=1))
    with pytest.raises(CrispError, match=r"blob\.size"):
        await worker.fetch("x.example/y", Descriptor(media_type="x", digest=digest(b""), size=-1))
    assert (await worker.service.blobs(Nothing(), Call())).blobs == {}  # type: ignore[arg-type]
