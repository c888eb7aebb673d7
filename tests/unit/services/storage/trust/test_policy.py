"""policy.json: what reads, what does not, and which scope counts for an image."""

from __future__ import annotations

import base64
import json

import pytest

from kernel.errors import InvalidInput
from kernel.formats.reference import parse as ref
from services.storage.trust import identity, policy
from services.storage.trust.policy import Kind

DIGEST = f"sha256:{'1' * 64}"
ACCEPT = [{"type": "insecureAcceptAnything"}]
REJECT = [{"type": "reject"}]
KEY = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}
COSIGN = {"type": "sigstoreSigned", "keyPath": "/k"}


def read(default: object = REJECT, **docker: object) -> policy.Policy:
    return policy.parse(json.dumps({"default": default, "transports": {"docker": docker}}).encode())


def only(requirement: dict[str, object]) -> policy.Requirement:
    return read([requirement]).default[0]


def test_a_small_policy_reads() -> None:
    found = policy.parse(json.dumps({"default": ACCEPT}).encode())
    assert [one.kind for one in found.default] == [Kind.ACCEPT]
    assert found.docker == {}


def test_requirements_read() -> None:
    assert only(KEY).key_paths == ("/k",)
    assert only({**KEY, "keyPath": None, "keyPaths": ["/a", "/b"]}).key_paths == ("/a", "/b")
    data = base64.b64encode(b"key").decode()
    assert only({"type": "sigstoreSigned", "keyData": data}).key_data == (b"key",)
    assert only({"type": "sigstoreSigned", "keyDatas": [data, data]}).key_data == (b"key", b"key")
    assert only(KEY).identity == identity.MatchRepoDigestOrExact()
    named = {"type": "remapIdentity", "prefix": "a.example", "signedPrefix": "b.example/c"}
    assert only({**COSIGN, "signedIdentity": named}).identity == identity.RemapIdentity(
        prefix="a.example", signed_prefix="b.example/c"
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"default": []}',
        b'{"default": [{"type": "insecureAcceptAnything"}], "default": [{"type": "reject"}]}',
        b'{"default": [{"type": "insecureAcceptAnything"}], "other": 1}',
        b'{"default": [{"type": "insecureAcceptAnything", "keyPath": "/k"}]}',
        b'{"default": [{"type": "insecureAcceptanything"}]}',
        b'{"default": [{"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}}]}',
        b'{"default": [{"type": "reject"}], "transports": {"docker": []}}',
        b'{"default": [{"type": "reject"}], "transports": {"dir": {"": []}}}',
        b'{"default": [{"type": "reject"}], "transports": {"docker": {"a": [{"type": "accept"}]}}}',
        b'{"default": [{"type": "reject"}]} {}',
    ],
)
def test_a_wrong_file_is_void(text: bytes) -> None:
    with pytest.raises(InvalidInput):
        policy.parse(text)


@pytest.mark.parametrize(
    ("requirement", "word"),
    [
        ({"type": "signedBy", "keyType": "GPGKeys"}, "keyPath"),
        ({"type": "signedBy", "keyPath": "/k"}, "keyType"),
        ({**KEY, "keyData": "aaaa"}, "keyData"),
        ({**KEY, "keyPath": "k"}, "absolute"),
        ({**KEY, "keyPath": None, "keyPaths": []}, "empty"),
        ({"type": "sigstoreSigned", "keyData": "%%"}, "base64"),
        ({**COSIGN, "signedIdentity": {"type": "matchSomething"}}, "signedIdentity"),
        ({**COSIGN, "signedIdentity": {"type": "exactReference"}}, "dockerReference"),
        ({**COSIGN, "signedIdentity": {"type": "exactReference", "dockerReference": "a.example/b"}}, "neither tag"),
        ({**COSIGN, "signedIdentity": {"type": "matchExact", "dockerReference": "a.example/b"}}, "dockerReference"),
    ],
)
def test_what_is_wrong_is_named(requirement: dict[str, object], word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        only({key: value for key, value in requirement.items() if value is not None})


@pytest.mark.parametrize(
    ("requirement", "word"),
    [
        ({"type": "sigstoreSigned", "fulcio": {"caPath": "/ca", "oidcIssuer": "x", "subjectEmail": "y"}}, "fulcio"),
        ({"type": "sigstoreSigned", "pki": {"caRootsPath": "/ca"}}, "pki"),
        ({**COSIGN, "rekorPublicKeyPath": "/r"}, "rekorPublicKeyPath"),
        ({**COSIGN, "rekorPublicKeyDatas": ["aaaa"]}, "rekorPublicKeyDatas"),
        ({**KEY, "keyType": "X509Certificates"}, "X509Certificates"),
    ],
)
def test_what_crisp_cannot_check_is_marked_and_never_met(requirement: dict[str, object], word: str) -> None:
    assert word in only(requirement).unsupported


@pytest.mark.parametrize("scope", ["*", "*.", "a*.example", "*.*.example", "*.example/app", "https://a", "a/"])
def test_a_scope_that_fits_nothing_is_refused(scope: str) -> None:
    with pytest.raises(InvalidInput, match=r"transports\.docker"):
        read(**{scope: ACCEPT})


SCOPES = {
    "r.sub.example.com:5000/a/b/app:v1",
    f"r.sub.example.com:5000/a/b/app@{DIGEST}",
    "r.sub.example.com:5000/a/b/app",
    "r.sub.example.com:5000/a/b",
    "r.sub.example.com:5000/a",
    "r.sub.example.com:5000",
    "*.sub.example.com",
    "*.example.com",
    "*.com",
    "",
}


def test_the_narrowest_scope_counts() -> None:
    tagged, by_digest = ref("r.sub.example.com:5000/a/b/app:v1"), ref(f"r.sub.example.com:5000/a/b/app@{DIGEST}")
    left = dict.fromkeys(SCOPES, ACCEPT)
    expected = [
        "r.sub.example.com:5000/a/b/app:v1", "r.sub.example.com:5000/a/b/app", "r.sub.example.com:5000/a/b",
        "r.sub.example.com:5000/a", "r.sub.example.com:5000", "*.sub.example.com", "*.example.com", "*.com",
    ]  # fmt: skip
    assert policy.choose(read(**left), by_digest)[0] == f"scope 'r.sub.example.com:5000/a/b/app@{DIGEST}'"
    for scope in expected:
        assert policy.choose(read(**left), tagged)[0] == f"scope {scope!r}"
        del left[scope]
    assert policy.choose(read(**left), tagged)[0] == "default of transport docker"
    assert policy.choose(read(), tagged)[0] == "default"


@pytest.mark.parametrize(
    ("scope", "image"),
    [
        ("example.com/app", "example.com/application:v1"),
        ("example.com", "example.com:5000/app:v1"),
        ("*.example.com", "example.com/app:v1"),
        ("busybox", "busybox"),
        ("example.com/app:v1", f"example.com/app:v1@{DIGEST}"),
    ],
)
def test_a_scope_is_no_prefix_of_letters(scope: str, image: str) -> None:
    assert policy.choose(read(**{scope: ACCEPT}), ref(image))[0] == "default"


def test_names_of_docker_hub_are_whole_in_scopes() -> None:
    assert policy.choose(read(**{"docker.io/library/busybox": ACCEPT}), ref("busybox"))[1][0].kind is Kind.ACCEPT


def test_an_image_without_a_name_has_the_default_alone() -> None:
    assert policy.choose(read(REJECT, **{"": ACCEPT}), None)[1][0].kind is Kind.REJECT
