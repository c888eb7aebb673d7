"""References as users write them, and those that must be refused before any I/O."""

from __future__ import annotations

import pytest

from kernel.errors import InvalidInput
from kernel.formats.reference import parse

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest"),
        ("someone/thing", "docker.io/someone/thing:latest"),
        ("quay.io/a/b/c:v1", "quay.io/a/b/c:v1"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("127.0.0.1:5000/x:y", "127.0.0.1:5000/x:y"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("Registry/x", "Registry/x:latest"),
        (f"busybox@sha256:{HEX}", f"docker.io/library/busybox@sha256:{HEX}"),
        (f"busybox:1@sha256:{HEX}", f"docker.io/library/busybox:1@sha256:{HEX}"),
        ("a__b/c.d-e--f", "docker.io/a__b/c.d-e--f:latest"),
    ],
)
def test_normalises(text: str, normalised: str) -> None:
    assert str(parse(text)) == normalised
    assert str(parse(str(parse(text)))) == normalised


def test_digest_decides_over_tag() -> None:
    reference = parse(f"busybox:1@sha256:{HEX}")
    assert reference.tagged == ""
    assert reference.name == "docker.io/library/busybox"
    assert parse("busybox").tagged == "docker.io/library/busybox:latest"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "UPPER",
        "a//b",
        "../x",
        "a/../b",
        "/x",
        "x/",
        "-x",
        "x:",
        "x:" + "t" * 129,
        "x:.tag",
        "x y",
        "x\n",
        "x\x00",
        "example.com:70000/x",
        "example.com:0/x",
        "a" * 250 + "/bcdefgh",
        "http://example.com/x",
        f"busybox@sha256:{HEX[:-1]}",
        f"busybox@sha256:{HEX}0",
        f"busybox@sha256:{HEX.upper()}",
        "busybox@sha256:../../x",
        "busybox@md5:abc",
        "busybox@sha256:" + "٣" * 64,
        HEX,
        f"sha256:{HEX}x",
        "b\u00fcsybox",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse(text)


def test_a_password_is_not_echoed() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse("user:hunter2@registry.example/x")
    assert "hunter2" not in str(caught.value)


def test_scopes_widen_from_the_reference_to_the_transport() -> None:
    around = [
        "r.example.com:5000/team/app",
        "r.example.com:5000/team",
        "r.example.com:5000",
        "*.example.com",
        "*.com",
        "",
    ]
    assert list(parse("r.example.com:5000/team/app:v1").scopes()) == ["r.example.com:5000/team/app:v1", *around]
    named = f"r.example.com:5000/team/app@sha256:{HEX}"
    assert list(parse(f"r.example.com:5000/team/app:v1@sha256:{HEX}").scopes()) == [named, *around]
    assert list(parse("[fd00::1]:5000/a:v1").scopes()) == [
        "[fd00::1]:5000/a:v1",
        "[fd00::1]:5000/a",
        "[fd00::1]:5000",
        "",
    ]
