"""auth.json: whose credentials are found, and nothing of them shown."""

from __future__ import annotations

import base64
import json

import pytest

from kernel.contracts.oci import Auth
from kernel.errors import FailedPrecondition, InvalidInput
from services.image.documents.auth_file import Helper, check, find, parse

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
    assert find(known, registry, path) == (Auth(username=user, password=SECRET) if user else None)


def test_tokens_and_plain_fields() -> None:
    known = parse(auths(a={"identitytoken": "i"}, b={"registrytoken": "r"}, c={"username": "u", "password": "p"}), "f")
    assert known.auths == {
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


@pytest.mark.parametrize("name", ["../../bin/x", "a/b", "", "a b", "x" * 65])
def test_a_helper_has_a_plain_name(name: str) -> None:
    for key in ("credsStore", "credHelpers"):
        data = json.dumps({key: {"a.example": name} if key == "credHelpers" else name}).encode()
        if name:
            with pytest.raises(FailedPrecondition, match="some file: credential helper"):
                parse(data, "some file")
        else:
            assert find(parse(data, "some file"), "a.example", "x") is None


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        ("ecr.example", Helper("ecr", "ecr.example", certain=True)),
        ("docker.io", Helper("hub", "https://index.docker.io/v1/", certain=True)),
        ("quay.example", Auth(username="q", password=SECRET)),
        ("stored.example", Helper("store", "stored.example", certain=True)),
        ("else.example", Helper("store", "else.example", certain=False)),
    ],
)
def test_who_has_the_credentials(registry: str, expected: object) -> None:
    """A helper for the registry comes before what is written; the store has what is written as empty, and all else."""
    known = parse(
        json.dumps({
            "auths": {"ecr.example": entry("e"), "quay.example": entry("q"), "stored.example": {}},
            "credHelpers": {"ecr.example": "ecr", "https://index.docker.io/v1/": "hub"},
            "credsStore": "store",
        }).encode(), "file",
    )  # fmt: skip
    assert find(known, registry, "team/app") == expected


@pytest.mark.parametrize(
    "auth",
    [
        Auth(username="a:b"),
        Auth(username="a\r\nb"),
        Auth(password="hunter2\n"),
        Auth(password="x" * 70_000),
        Auth(identity_token="a\x00"),
        Auth(registry_token="a b"),
    ],
)
def test_refuses_credentials_without_repeating_them(auth: Auth) -> None:
    with pytest.raises(InvalidInput) as caught:
        check(auth)
    assert "hunter2" not in str(caught.value)


def test_dockers_convention_for_identity_tokens() -> None:
    assert check(Auth(username="<token>", password="t")) == Auth(identity_token="t")
    assert check(None) == Auth()
