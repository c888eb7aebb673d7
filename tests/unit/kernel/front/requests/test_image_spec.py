"""Names and credentials of images: for whom credentials are, which are refused, and which pulls are equal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kernel.contracts.oci import Auth
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import InvalidInput
from kernel.formats.reference import Reference, parse
from kernel.front.requests import image_spec
from kernel.front.requests.image_spec import PullPlan

HUB = "docker.io"


def auth(**fields: str) -> cri.AuthConfig:
    return cri.AuthConfig(**fields)  # type: ignore[arg-type]


def one(name: str) -> tuple[Reference, ...]:
    return (parse(name),)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (auth(), None),
        (auth(username="u", password="p"), Auth(username="u", password="p")),
        (auth(auth="dTpwOnE="), Auth(username="u", password="p:q")),
        (auth(username="u", auth="dTpwOnE="), Auth(username="u")),
        (auth(identity_token="t"), Auth(identity_token="t")),
        (auth(registry_token="t"), Auth(registry_token="t")),
        (auth(registry_token="t", server_address="https://index.docker.io/v1/"), Auth(registry_token="t")),
        (auth(registry_token="t", server_address="quay.io"), None),
        (auth(registry_token="t", server_address="docker.io.evil.example"), None),
    ],
)
def test_credentials_are_for_one_server(given: cri.AuthConfig, found: Auth | None) -> None:
    assert image_spec.auth_of(given, HUB) == found


def test_credentials_without_a_server_are_docker_hubs_for_a_short_name() -> None:
    given = auth(registry_token="t")
    assert image_spec.auth_of(given, "quay.io") == Auth(registry_token="t")
    assert image_spec.auth_of(given, "quay.io", short=True) is None
    assert image_spec.auth_of(given, HUB, short=True) == Auth(registry_token="t")


@pytest.mark.parametrize("server", ["quay.io:443", "https://quay.io", "https://QUAY.io:443/v2/", "http://quay.io:80"])
def test_a_server_has_several_spellings(server: str) -> None:
    assert image_spec.auth_of(auth(registry_token="t", server_address=server), "quay.io") is not None


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("auth", auth(auth="%%%")),
        ("auth", auth(auth="bm9jb2xvbg==")),
        ("password", auth(password="a\r\nX: y")),
        ("registry_token", auth(registry_token="x" * 70000)),
        ("server_address", auth(registry_token="t", server_address="http://[x")),
    ],
)
def test_a_refusal_names_the_field_and_shows_no_secret(field: str, given: cri.AuthConfig) -> None:
    with pytest.raises(InvalidInput, match=rf"^auth\.{field}: ") as caught:
        image_spec.auth_of(given, HUB)
    assert "X: y" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "image", "namespace"),
    [("image.image", "", ""), ("image.image", "Box", ""), ("sandbox_config.metadata.namespace", "box", "a/b")],
)
def test_a_pull_names_its_wrong_field(field: str, image: str, namespace: str) -> None:
    with pytest.raises(InvalidInput, match=rf"^{field}: "):
        image_spec.pull_of(cri.ImageSpec(image=image), auth(), namespace, one)


def test_equal_pulls_have_one_key() -> None:
    plan = image_spec.pull_of(cri.ImageSpec(image="box"), auth(username="u", password="p"), "ns", one)
    assert plan == PullPlan(((parse("box"), Auth(username="u", password="p")),), "ns")
    others = [replace(plan, namespace="other"), replace(plan, candidates=((parse("box"), None),))]
    assert len({image_spec.join_key(each) for each in (plan, *others)}) == 3
    assert image_spec.join_key(plan) == image_spec.join_key(replace(plan))
