"""Challenges, token servers' answers and credentials."""

from __future__ import annotations

import pytest

from services.image.registry import challenge
from services.image.registry.challenge import BadToken, Challenge


def test_reads_several_challenges() -> None:
    found = challenge.parse(
        ['Bearer realm="https://auth.example/token",service="a \\"b\\"", scope=x, Basic realm="y"', "Negotiate"]
    )
    assert found == (
        Challenge("bearer", {"realm": "https://auth.example/token", "service": 'a "b"', "scope": "x"}),
        Challenge("basic", {"realm": "y"}),
        Challenge("negotiate", {}),
    )


@pytest.mark.parametrize("header", ["", "=", ", ,", "\x00", 'Bearer realm="unended'])
def test_an_unreadable_challenge_has_no_parameters(header: str) -> None:
    assert all(not found.parameters for found in challenge.parse([header]))


def test_challenges_are_bounded() -> None:
    assert len(challenge.parse(["Basic a=b, " * 1000])) == 8


@pytest.mark.parametrize(
    ("body", "value", "lifetime"),
    [
        (b'{"token":"abc"}', "abc", 60),
        (b'{"access_token":"abc","expires_in":120}', "abc", 120),
        (b'{"token":"abc","expires_in":-5}', "abc", 60),
        (b'{"token":"abc","expires_in":1e308}', "abc", 86400),
        (b'{"token":"abc","expires_in":7200}', "abc", 7200),
    ],
)
def test_reads_tokens(body: bytes, value: str, lifetime: int) -> None:
    token = challenge.token(body)
    assert (token.value, token.lifetime) == (value, lifetime)
    assert value not in repr(token)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"token":""}', b'{"token":"a b"}', b'{"token":"a\\r\\nX: y"}', b'{"token":5}',
        b'{"token":"a","expires_in":NaN}', b'{"token":"a","token":"b"}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_refuses_tokens(body: bytes) -> None:
    with pytest.raises(BadToken):
        challenge.token(body)
