"""The caller's state table: every state with every event."""

from __future__ import annotations

import pytest

from kernel.bus.calls import Calls


def test_a_call_made_while_down_is_sent_once_connected() -> None:
    calls: Calls[str] = Calls()
    assert calls.add(b"1", "one", repeat=True) is False
    assert calls.connected() == ["one"]
    assert calls.connected() == []


def test_a_call_made_while_up_is_sent_at_once() -> None:
    calls: Calls[str] = Calls()
    calls.connected()
    assert calls.add(b"1", "one", repeat=False) is True
    assert calls.connected() == []


def test_a_lost_worker_fails_only_what_was_sent_and_may_not_be_repeated() -> None:
    calls: Calls[str] = Calls()
    calls.connected()
    calls.add(b"1", "once, sent", repeat=False)
    calls.add(b"2", "again, sent", repeat=True)
    assert calls.lost() == ["once, sent"]
    calls.add(b"3", "once, waiting", repeat=False)
    assert calls.lost() == []
    assert calls.connected() == ["again, sent", "once, waiting"]


def test_a_refused_send_waits_for_the_next_connection() -> None:
    calls: Calls[str] = Calls()
    calls.connected()
    calls.add(b"1", "one", repeat=False)
    calls.unsent(b"1")
    assert calls.lost() == []
    assert calls.connected() == ["one"]


def test_a_settled_call_is_gone() -> None:
    calls: Calls[str] = Calls()
    calls.connected()
    calls.add(b"1", "one", repeat=True)
    assert calls.find(b"1") == "one"
    assert calls.settle(b"1") == "one"
    assert calls.settle(b"1") is None
    assert calls.find(b"1") is None
    calls.unsent(b"1")
    calls.lost()
    assert calls.connected() == []


def test_an_id_is_used_once() -> None:
    calls: Calls[str] = Calls()
    calls.add(b"1", "one", repeat=True)
    with pytest.raises(ValueError, match="used once"):
        calls.add(b"1", "two", repeat=True)
    assert calls.connected() == ["one"]
