"""Deadlines, joins and locks."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Coroutine

import pytest

from kernel.errors import DeadlineExceeded, Unavailable
from kernel.host import aio
from kernel.host.aio import FAILURES, Deadline, Joins, KeyedLock, Tasks


async def test_a_passed_deadline_names_what_was_under_way() -> None:
    with pytest.raises(DeadlineExceeded, match="mounting x: the deadline passed"):
        async with Deadline.after(0.01).limit("mounting x"):
            await asyncio.Event().wait()


def test_the_earlier_deadline_wins() -> None:
    long = Deadline.after(100)
    assert 0 < long.earlier(1).remaining() <= 1
    assert long.earlier(1000) is long


async def test_who_asks_meanwhile_joins_and_the_attempt_outlives_its_asker() -> None:
    tasks, release, runs = Tasks(), asyncio.Event(), []

    async def attempt() -> str:
        runs.append(1)
        await release.wait()
        return "made"

    joins: Joins[str, str] = Joins(tasks)
    joins.begin("key", attempt(), "attempt")
    loop = asyncio.get_running_loop()
    first, second = (loop.create_task(joins.wait("key")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    release.set()
    assert await second == "made"
    assert runs == [1]
    assert not joins.running("key")
    await tasks.close()


async def test_one_holder_per_key() -> None:
    lock, order = KeyedLock[str](), []

    async def work(key: str, name: str, go: asyncio.Event) -> None:
        async with lock.hold(key):
            order.append(name)
            await go.wait()

    gate, opened = asyncio.Event(), asyncio.Event()
    opened.set()
    loop = asyncio.get_running_loop()
    held = loop.create_task(work("a", "first", gate))
    await asyncio.sleep(0)
    waits = loop.create_task(work("a", "second", opened))
    await loop.create_task(work("b", "other", opened))
    assert order == ["first", "other"]
    gate.set()
    await asyncio.gather(held, waits)
    assert order == ["first", "other", "second"]


async def broken() -> None:
    raise ValueError("broken")


async def away() -> None:
    raise Unavailable("storage is away")


async def a_turn() -> None:
    """Let what is ready run, and drop what nobody holds."""
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()


async def test_a_bug_in_a_spawned_task_is_logged_with_its_traceback_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks, before = Tasks(), FAILURES.bugs
    tasks.spawn(broken(), "the work")
    await a_turn()
    (record,) = caplog.records
    assert record.levelno == logging.CRITICAL
    assert "the work" in record.getMessage()
    assert "in broken" in caplog.text
    assert "ValueError: broken" in caplog.text
    assert FAILURES.bugs == before + 1


async def test_an_error_of_the_host_in_a_spawned_task_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    tasks, before = Tasks(), (FAILURES.errors, FAILURES.bugs)
    tasks.spawn(away(), "the work")
    await a_turn()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "task the work failed: storage is away"
    assert record.exc_info is None
    assert (FAILURES.errors, FAILURES.bugs) == (before[0] + 1, before[1])


async def test_a_spawned_task_can_be_cancelled_and_that_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    tasks, ended = Tasks(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    spawned = tasks.spawn(work(), "the work")
    await a_turn()
    spawned.cancel()
    await ended.wait()
    spawned.cancel()
    assert not caplog.records


async def test_the_error_of_a_run_task_is_raised_where_it_is_awaited_and_nowhere_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    aio.report_lost_errors()
    tasks = Tasks()
    with pytest.raises(ValueError, match="broken"):
        await tasks.run(broken(), "the work")
    await a_turn()
    assert not caplog.records


async def test_an_error_that_nobody_retrieved_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    aio.report_lost_errors()
    tasks, before = Tasks(), FAILURES.bugs
    await asyncio.wait({tasks.run(broken(), "the work")})
    await a_turn()
    (record,) = caplog.records
    assert record.levelno == logging.CRITICAL
    assert "the work" in record.getMessage()
    assert "in broken" in caplog.text
    assert FAILURES.bugs == before + 1


async def test_the_error_of_a_remembered_task_is_reported_and_raised(caplog: pytest.LogCaptureFixture) -> None:
    remembered = Tasks().run(broken(), "the work", remembered=True)
    await a_turn()
    (record,) = caplog.records
    assert record.levelno == logging.CRITICAL
    with pytest.raises(ValueError, match="broken"):
        await aio.result_of(remembered)


async def test_a_broken_callback_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    aio.report_lost_errors()
    before = FAILURES.bugs
    asyncio.get_running_loop().call_soon(lambda: [][0])
    await a_turn()
    (record,) = caplog.records
    assert record.levelno == logging.CRITICAL
    assert "IndexError" in caplog.text
    assert FAILURES.bugs == before + 1


async def test_closing_reports_what_the_tasks_end_with(caplog: pytest.LogCaptureFixture) -> None:
    aio.report_lost_errors()
    tasks = Tasks()

    async def clumsy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("broken in its end")

    tasks.run(clumsy(), "one that is run")
    tasks.spawn(clumsy(), "one that is spawned")
    await a_turn()
    await tasks.close()
    await a_turn()
    assert {record.getMessage() for record in caplog.records} == {
        "one that is run failed",
        "task one that is spawned failed",
    }
    await tasks.close()


async def test_a_task_whose_caller_leaves_goes_on_and_its_error_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    aio.report_lost_errors()
    tasks, release = Tasks(), asyncio.Event()

    async def work() -> None:
        await release.wait()
        await broken()

    caller = asyncio.get_running_loop().create_task(aio.result_of(tasks.run(work(), "the work")))
    await a_turn()
    caller.cancel()
    await asyncio.wait({caller})
    del caller
    release.set()
    await a_turn()
    (record,) = caplog.records
    assert record.getMessage() == "the work failed"


async def test_join_begins_one_attempt_and_raises_its_error_in_all_callers() -> None:
    joins: Joins[str, None] = Joins(Tasks())
    calls: list[str] = []

    def attempt() -> Coroutine[object, object, None]:
        calls.append("begun")
        return away()

    outcomes = await asyncio.gather(*(joins.join("key", attempt, "work") for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in outcomes] == [Unavailable] * 3
    assert calls == ["begun"]
    assert not joins.running("key")


async def test_what_the_preparation_of_an_attempt_raises_begins_nothing() -> None:
    joins: Joins[str, None] = Joins(Tasks())

    def attempt() -> Coroutine[object, object, None]:
        raise ValueError("the request is wrong")

    with pytest.raises(ValueError, match="the request is wrong"):
        await joins.join("key", attempt, "work")
    assert not joins.running("key")


async def test_ensure_begins_one_attempt_at_a_time() -> None:
    joins: Joins[str, None] = Joins(Tasks())
    release = asyncio.Event()

    async def attempt() -> None:
        await release.wait()

    assert joins.ensure("key", attempt, "work")
    assert not joins.ensure("key", attempt, "work")
    release.set()
    await joins.wait("key")
    assert joins.ensure("key", attempt, "work")
    await joins.wait("key")


async def test_the_error_of_an_attempt_whose_callers_have_left_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    aio.report_lost_errors()
    joins: Joins[str, None] = Joins(Tasks())
    release = asyncio.Event()

    async def attempt() -> None:
        await release.wait()
        await broken()

    caller = asyncio.get_running_loop().create_task(joins.join("key", attempt, "the work"))
    await a_turn()
    caller.cancel()
    await a_turn()
    release.set()
    await a_turn()
    (record,) = caplog.records
    assert record.levelno == logging.CRITICAL
    assert "the work" in record.getMessage()


async def test_a_cancelled_attempt_cancels_its_callers() -> None:
    tasks = Tasks()
    joins: Joins[str, None] = Joins(tasks)

    async def attempt() -> None:
        await asyncio.Event().wait()

    caller = asyncio.get_running_loop().create_task(joins.join("key", attempt, "work"))
    await a_turn()
    await tasks.close()
    await asyncio.wait({caller})
    assert caller.cancelled()


async def test_keep_trying_ends_with_the_first_success(caplog: pytest.LogCaptureFixture) -> None:
    outcomes: list[bool | Exception] = [Unavailable("away"), False, True]

    async def attempt() -> bool:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    with caplog.at_level(logging.INFO):
        await aio.keep_trying(attempt, "the work", first=0.001, longest=0.002, at_once=True)
    assert not outcomes
    assert [record.getMessage() for record in caplog.records] == [
        "the work failed, again in 0 s: away",
        "the work succeeded at last",
    ]


async def test_keep_trying_does_not_repeat_a_bug() -> None:
    async def attempt() -> bool:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await aio.keep_trying(attempt, "the work", first=0.001, at_once=False)
