from __future__ import annotations

import logging

import pytest

from kernel.contracts.runtime import PodChanged, PodFact
from kernel.ids import SandboxId
from services.runtime.records import watchers
from services.runtime.records.watchers import Watchers

CHANGE = PodChanged(fact=PodFact(sandbox_id=SandboxId("a" * 64), ready=False))


async def test_each_watcher_gets_every_change_until_it_leaves() -> None:
    known = Watchers()
    known.report(CHANGE)
    first, second = known.join(), known.join()
    known.report(CHANGE)
    known.leave(first)
    known.leave(first)
    known.report(CHANGE)
    assert (first.qsize(), second.qsize()) == (1, 2)


async def test_one_that_does_not_read_is_dropped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watchers, "_MOST_WAITING", 2)
    known = Watchers()
    queue = known.join()
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            known.report(CHANGE)
    assert queue.qsize() == 2
    assert [record.getMessage() for record in caplog.records] == ["a watcher does not read its events: dropped"]
