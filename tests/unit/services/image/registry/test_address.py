"""Where redirects and token servers may lead."""

from __future__ import annotations

import pytest

from services.image.registry import address
from services.image.registry.address import BadAddress, Distance, Origin, Url, parse

HERE = parse("https://registry.example/v2/x/blobs/y")


@pytest.mark.parametrize(
    ("text", "origin", "target"),
    [
        ("https://cdn.example/a?b=c#d", Origin("https", "cdn.example", 443), "/a?b=c"),
        ("http://CDN.example:8080", Origin("http", "cdn.example", 8080), "/"),
        ("https://[2001:db8::1]:5000/x", Origin("https", "2001:db8::1", 5000), "/x"),
    ],
)
def test_reads_urls(text: str, origin: Origin, target: str) -> None:
    assert parse(text) == Url(origin, target)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/other", "https://registry.example/other"),
        ("blobs/z", "https://registry.example/v2/x/blobs/blobs/z"),
        ("//cdn.example/z", "https://cdn.example/z"),
        ("https://registry.example:444/z", "https://registry.example:444/z"),
    ],
)
def test_follows_relative_redirects(location: str, expected: str) -> None:
    assert address.redirect(HERE, location) == parse(expected)


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://registry.example/z",
        "file:///etc/shadow",
        "unix:/run/crisp/crisp.sock",
        "gopher://x/",
        "https://user:secret@registry.example/",
        "https://registry.example/a\r\nX: y",
        "https://registry.example/a b",
        "https://registry.example:99999/",
        "https://registry.example:0/",
        "https://exa mple/",
        "https://[::g]/",
        "https://a/" + "x" * 20000,
    ],
)
def test_refuses_redirects(location: str) -> None:
    with pytest.raises(BadAddress) as caught:
        address.redirect(HERE, location)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("ip", "expected"),
    [
        ("8.8.8.8", Distance.PUBLIC),
        ("10.1.2.3", Distance.PRIVATE),
        ("fd00::1", Distance.PRIVATE),
        ("127.0.0.2", Distance.LOOPBACK),
        ("::1", Distance.LOOPBACK),
        ("::ffff:127.0.0.1", Distance.LOOPBACK),
        ("169.254.169.254", Distance.LINK),
        ("fe80::1%eth0", Distance.LINK),
        ("0.0.0.0", Distance.LINK),
        ("224.0.0.1", Distance.LINK),
    ],
)
def test_distances(ip: str, expected: Distance) -> None:
    assert address.distance(ip) is expected


@pytest.mark.parametrize(
    ("registry", "other", "credentials", "allowed"),
    [
        (Distance.PUBLIC, Distance.PUBLIC, True, True),
        (Distance.PUBLIC, Distance.PRIVATE, False, True),
        (Distance.PUBLIC, Distance.PRIVATE, True, False),
        (Distance.PUBLIC, Distance.LOOPBACK, False, False),
        (Distance.PRIVATE, Distance.LINK, False, False),
        (Distance.PRIVATE, Distance.PRIVATE, True, True),
        (Distance.LOOPBACK, Distance.LOOPBACK, True, True),
        (Distance.LOOPBACK, Distance.LINK, False, False),
    ],
)
def test_a_registry_cannot_lead_nearer(registry: Distance, other: Distance, credentials: bool, allowed: bool) -> None:
    assert address.may_lead_to(registry, other, credentials=credentials) is allowed


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("registry-1.docker.io", "auth.docker.io", True),
        ("registry.example.co.uk", "auth.example.co.uk", True),
        ("a.co.uk", "b.co.uk", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "localhost", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("registry.example", "registry.example.evil", False),
        ("one.azurecr.io", "two.azurecr.io", False),
        ("localhost", "localhost", True),
        ("localhost", "evil.localhost", False),
    ],
)
def test_owners(one: str, other: str, same: bool) -> None:
    assert address.same_owner(one, other) is same


def test_token_servers_are_https_unless_the_registry_is_not_verified() -> None:
    https = Origin("https", "registry.example", 443)
    with pytest.raises(BadAddress):
        address.token_server(https, "http://registry.example/token", verified=True)
    with pytest.raises(BadAddress):
        address.token_server(https, "http://registry.example/token", verified=False)
    plain = Origin("http", "127.0.0.1", 5000)
    assert address.token_server(plain, "http://127.0.0.1:5001/token", verified=False).target == "/token"


@pytest.mark.parametrize(("registry", "near"), [("localhost:5000", True), ("127.0.0.9", True), ("[::1]:5", True),
                                                ("10.0.0.1", False), ("localhost.example", False)])  # fmt: skip
def test_loopback_by_name(registry: str, near: bool) -> None:
    assert address.is_loopback(registry) is near
