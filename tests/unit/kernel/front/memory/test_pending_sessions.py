"""Sessions that wait for their clients: once, and for a minute."""

from __future__ import annotations

import pytest

from kernel.contracts.stream import ExpectRequest, Kind
from kernel.errors import ResourceExhausted
from kernel.front.memory.pending_sessions import MOST, Pending, PendingSessions
from kernel.ids import new_session


def pending(expires: int) -> Pending:
    return Pending(ExpectRequest(session=new_session(), kind=Kind.EXEC, target="c", expires_ns=expires), ("true",))


def test_a_session_is_taken_once() -> None:
    sessions, one = PendingSessions(), pending(100)
    sessions.add(one, 0)
    assert sessions.all(99) == [one]
    assert sessions.take(one.expected.session) is one
    assert sessions.take(one.expected.session) is None


def test_those_that_nobody_comes_for_are_forgotten() -> None:
    sessions = PendingSessions()
    for _ in range(MOST):
        sessions.add(pending(100), 0)
    with pytest.raises(ResourceExhausted, match="forgotten after a minute"):
        sessions.add(pending(200), 99)
    sessions.add(last := pending(200), 100)
    assert sessions.all(100) == [last]
