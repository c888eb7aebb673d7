"""Registries that break off, stall, flood, encode and redirect: an error with host and reason, and nothing kept."""

from __future__ import annotations

import base64
import socket

import pytest

from deploy.demo_image import digest
from kernel.contracts.oci import Auth
from kernel.errors import (
    Corrupt,
    CrispError,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from tests.integration.image.conftest import Worker
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


@pytest.mark.parametrize("leads", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "0.0.0.0"])
async def test_a_name_is_judged_by_what_it_means_when_it_is_connected_to(
    worker: Worker, liar: Lying, monkeypatch: pytest.MonkeyPatch, leads: str
) -> None:
    """A name may mean something harmless when it is looked at, and this machine's metadata service a moment later."""
    real = socket.getaddrinfo

    def rebound(host: str, port: int, **how: object) -> object:
        if host != "rebound.example":
            return real(host, port, **how)
        family = socket.AF_INET6 if ":" in leads else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (leads, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    liar.routes[PATH] = redirect("http://rebound.example/x")
    with pytest.raises(Unavailable, match="link to this machine: not followed"):
        await worker.fetch(f"{liar.address}/app", BLOB)


async def test_credentials_do_not_follow_a_redirect(worker: Worker, liars) -> None:
    registry, store = liars(), liars()
    registry.routes[PATH] = guarded(redirect(f"http://{store.address}/blob?sig=1"), BASIC, 'Basic realm="x"')
    store.routes["/blob"] = redirect(f"http://{registry.address}/back")
    registry.routes["/back"] = reply(200, BLOB)
    assert await worker.fetch(f"{registry.address}/app", BLOB, ANN) == BLOB
    assert [("Authorization" in headers) for _, _, headers in registry.seen] == [False, True, False]
    assert all("Authorization" not in headers for _, _, headers in store.seen)
    assert all(headers["Accept-Encoding"] == "identity" for _, _, headers in registry.seen + store.seen)
