"""Tokens: once, of one kind, for a while."""

from __future__ import annotations

import pytest

from kernel.contracts.stream import ExpectRequest, Kind
from kernel.errors import ResourceExhausted
from kernel.ids import SessionId, new_session
from kernel.stream.client.tokens import MOST, Tokens


def request(session: SessionId | None = None, expires: int = 100, kind: Kind = Kind.EXEC) -> ExpectRequest:
    return ExpectRequest(session=session or new_session(), kind=kind, target="c", expires_ns=expires)


def test_a_token_counts_once() -> None:
    tokens, one = Tokens(), request()
    tokens.expect(one, 0)
    tokens.expect(one, 0)
    assert tokens.take(Kind.EXEC, one.session, 99) is one
    assert tokens.take(Kind.EXEC, one.session, 99) is None


def test_a_token_is_of_one_kind() -> None:
    tokens, one = Tokens(), request()
    tokens.expect(one, 0)
    assert tokens.take(Kind.ATTACH, one.session, 0) is None
    assert tokens.take(Kind.PORT_FORWARD, one.session, 0) is None
    assert tokens.take(Kind.EXEC, one.session, 0) is one


def test_a_token_expires() -> None:
    tokens, one = Tokens(), request(expires=100)
    tokens.expect(one, 0)
    assert tokens.take(Kind.EXEC, one.session, 100) is None


def test_a_guess_finds_nothing() -> None:
    tokens = Tokens()
    tokens.expect(request(), 0)
    assert all(tokens.take(Kind.EXEC, new_session(), 0) is None for _ in range(1000))


def test_their_number_is_bounded_and_expired_ones_make_room() -> None:
    tokens = Tokens()
    for _ in range(MOST):
        tokens.expect(request(expires=100), 0)
    with pytest.raises(ResourceExhausted, match="wait for their clients"):
        tokens.expect(request(expires=300), 99)
    tokens.expect(request(expires=300), 100)
