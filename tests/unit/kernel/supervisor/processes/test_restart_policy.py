"""The restart policy as a table."""

from __future__ import annotations

import pytest

from kernel.supervisor.processes.restart_policy import HOLD, MOST, WINDOW, Death, hangs, judge, remember


def deaths(*ages: float, ready: bool = True) -> tuple[Death, ...]:
    return tuple(Death(at=100 - age, ready=ready) for age in ages)


@pytest.mark.parametrize(
    ("history", "after", "held"),
    [
        ((), 0.0, False),
        (deaths(0), 0.0, False),
        (deaths(5, 0), 0.0, False),
        (deaths(6, 5, 0), 0.2, False),
        (deaths(7, 6, 5, 0), 0.5, False),
        (deaths(8, 7, 6, 5, 0), 1.0, False),
        (deaths(9, 8, 7, 6, 5, 0), HOLD, True),
        (deaths(60, 50, 40, 35, 31, 30.5, 0), 0.0, False),
        (deaths(0, ready=False), 0.0, False),
        (deaths(1, 0, ready=False), 0.5, False),
        (deaths(2, 1, 0, ready=False), 2.0, False),
        (deaths(5, 4, 3, 2, 1, 0, ready=False), HOLD, True),
    ],
)
def test_the_table(history: tuple[Death, ...], after: float, held: bool) -> None:
    verdict = judge(history)
    assert (verdict.after, verdict.held) == (after, held)
    assert bool(verdict.reason) is held


def test_a_loop_that_never_gets_ready_never_ends_and_never_spins() -> None:
    history: tuple[Death, ...] = ()
    now, starts = 0.0, 0
    while now < 600:
        history = remember(history, Death(now, ready=False))
        now += judge(history).after + 0.05
        starts += 1
    assert 600 / HOLD / 2 < starts < 600 / HOLD * 4
    assert len(history) <= MOST * 4


def test_what_is_long_past_is_forgotten() -> None:
    history = remember(deaths(0), Death(at=100 + WINDOW + 1, ready=True))
    assert len(history) == 1


@pytest.mark.parametrize(
    ("worked", "verdict"),
    [
        ([1.0], False),
        ([1.0, 1.0, 1.0], False),  # it may still answer
        ([1.0, 1.0, 1.0, 1.0], True),  # it does nothing
        ([1.0, 1.5, 1.5, 1.5], True),  # it does nothing any more
        ([1.0, 1.1, 1.2, 1.3], False),  # the host lets it have little
        ([1.0, 1.1, 1.2, 1.3, 1.3], True),
        ([1.0, 4.0, 7.0, 10.0], False),
        ([1.0, 4.0, 7.0, 10.0, 13.0], True),  # it works on something for ever
    ],
)
def test_what_does_not_answer_hangs_unless_it_works(worked: list[float], verdict: bool) -> None:
    assert hangs(worked) is verdict
