"""The node's auth.json."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from kernel.contracts.oci import Auth
from kernel.errors import FailedPrecondition
from services.image.credentials import Credentials, find, parse

SECRET = "hunter2-do-not-show"


def entry(name: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:{SECRET}".encode()).decode()}


def auths(**found: object) -> bytes:
    return json.dumps({"auths": found}).encode()


@pytest.mark.parametrize(
    ("registry", "path", "user"),
    [
        ("quay.example", "team/app", "app"),
        ("quay.example", "team/app/deeper", "app"),
        ("quay.example", "team/application", "team"),
        ("quay.example", "other", "quay"),
        ("QUAY.example", "other", "quay"),
        ("quay.example:5000", "team/app", ""),
        ("docker.io", "library/x", "hub"),
        ("old.example", "v1/x", "old"),
        ("else.example", "x", ""),
    ],
)
def test_the_longest_scope_decides(registry: str, path: str, user: str) -> None:
    scopes = {
        "quay.example": "quay", "quay.example/team": "team", "quay.example/team/app": "app",
        "https://index.docker.io/v1/": "hub", "old.example/v2/": "old",
    }  # fmt: skip
    known = parse(auths(**{scope: entry(name) for scope, name in scopes.items()}), "file")
    assert find(known, registry, path) == (Auth(username=user, password=SECRET) if user else Auth())


def test_tokens_and_plain_fields() -> None:
    known = parse(auths(a={"identitytoken": "i"}, b={"registrytoken": "r"}, c={"username": "u", "password": "p"}), "f")
    assert known == {
        "a": Auth(identity_token="i"),
        "b": Auth(registry_token="r"),
        "c": Auth(username="u", password="p"),
    }


@pytest.mark.parametrize(
    "data",
    [
        f'{{"auths": "{SECRET}"}}'.encode(),
        f"{SECRET}".encode(),
        auths(a={"auth": SECRET}),
        auths(a={"auth": base64.b64encode(SECRET.encode()).decode()}),
        auths(a={"username": "a", "password": f"{SECRET}\n"}),
        auths(a={"username": "a", "password": [SECRET]}),
    ],
)
def test_refuses_files_and_shows_nothing_of_them(data: bytes) -> None:
    with pytest.raises(FailedPrecondition, match="some file") as caught:
        parse(data, "some file")
    assert SECRET not in str(caught.value)


def test_helpers_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    assert parse(b'{"credsStore": "secretservice"}', "some file") == {}
    assert "not asked" in caplog.text


def test_rereads_what_changed(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    credentials = Credentials(file)
    assert credentials.of("a.example", "x") == Auth()
    file.write_bytes(auths(**{"a.example": entry("ann")}))
    assert credentials.of("a.example", "x").username == "ann"
    file.write_bytes(b"no")
    for _ in range(2):
        with pytest.raises(FailedPrecondition):
            credentials.of("a.example", "x")
    file.unlink()
    assert credentials.of("a.example", "x") == Auth()
    assert Credentials(None).of("a.example", "x") == Auth()
