"""Answers that are malformed, too long or encoded: an error with host and reason, and nothing kept."""

from __future__ import annotations

import pytest

from kernel.errors import Corrupt, CrispError, PermissionDenied, ResourceExhausted, Unavailable
from tests.integration.image.conftest import Worker
from tests.integration.image.lying import Answer, Handler, Lying, redirect, reply
from tests.integration.image.test_transport import BLOB, PATH


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
        (reply(200, BLOB, {"Content-Encoding": "gzip"}), Unavailable, "answer is encoded"),
        (reply(206, BLOB), Unavailable, "206"),
        (reply(204), Unavailable, "204"),
        (reply(403, b'{"errors":[{"code":"DENIED"}]}'), PermissionDenied, r"403 Forbidden \(DENIED\)"),
        (reply(429), ResourceExhausted, "too many requests"),
        (reply(503, b"<html>"), Unavailable, "503 Service Unavailable"),
        (reply(799, b"[" * 10000), Unavailable, "799"),
        (redirect("file:///etc/shadow"), Unavailable, "neither http nor https"),
        (redirect("http://169.254.169.254/latest/"), Unavailable, "link to this machine"),
        (redirect(PATH), Unavailable, "more than 5 redirects"),
        (redirect(""), Unavailable, "redirect"),
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
