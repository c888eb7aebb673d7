"""Who gets which credentials: challenges, tokens, token servers."""

from __future__ import annotations

import base64
import json
import urllib.parse

import pytest

from deploy.demo_image import Image, digest
from kernel.contracts.oci import Auth
from kernel.errors import CrispError, Unauthenticated, Unavailable
from services.image.registry import tokens as kept
from services.image.registry.address import Origin
from services.image.registry.challenge import Token
from tests.integration.image.conftest import Worker
from tests.integration.image.lying import Answer, Handler, Lying, guarded, redirect, reply

SECRET = "hunter2-do-not-show"
BLOB = b"some bytes of a layer" * 100
PATH = f"/v2/app/blobs/{digest(BLOB)}"
ANN = Auth(username="ann", password=SECRET)
BASIC = f"Basic {base64.b64encode(f'ann:{SECRET}'.encode()).decode()}"


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


def test_tokens_are_kept_until_they_expire_and_the_newest_of_too_many() -> None:
    now = [0.0]
    tokens = kept.Tokens(lambda: now[0])
    keys = [(Origin("https", f"{number}.example", 443), "scope", Auth()) for number in range(300)]
    for number, key in enumerate(keys):
        tokens.put(key, Token(f"t{number}", 1000 + number))
    assert sum(1 for key in keys if tokens.get(key)) == 256
    assert [tokens.get(keys[0]), tokens.get(keys[-1])] == ["", "t299"]
    now[0] = 1293.0
    assert tokens.get(keys[-1]) == "t299"
    now[0] = 1295.0
    assert tokens.get(keys[-1]) == ""
    tokens.put(keys[0], Token("new", 100))
    assert tokens.get(keys[0]) == "new"
    tokens.drop(keys[0])
    assert tokens.get(keys[0]) == ""


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


async def test_a_token_server_elsewhere_gets_no_credentials(workers, liar: Lying, liars) -> None:
    tokens = Tokens(liars())
    tokens.guard(liar, "tokens.invalid")
    with pytest.raises(Unauthenticated, match=r"tokens\.invalid is of another domain"):
        await (await workers()).resolve(f"{liar.address}/app", ANN)
    with pytest.raises(Unavailable, match="cannot be resolved"):  # so it was asked
        await (await workers(token_servers=("tokens.invalid",))).resolve(f"{liar.address}/app", ANN)
    assert not tokens.asked
