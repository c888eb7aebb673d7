"""CPU time per second, from one reading and from two."""

from __future__ import annotations

from kernel.contracts.stats import CgroupUsage
from kernel.front.responses.rates import Rate, first_rate

SECOND = 1_000_000_000


def usage(at: float, cpu: float | None) -> CgroupUsage:
    return CgroupUsage(at=int(at * SECOND), cpu=None if cpu is None else int(cpu * SECOND))


def test_the_first_rate_is_the_mean_since_the_start() -> None:
    assert first_rate(usage(10, 2), 6 * SECOND) == Rate(10 * SECOND, 2 * SECOND, SECOND // 2)
    assert first_rate(usage(10, 2), 0) == Rate(10 * SECOND, 2 * SECOND, 0)
    assert first_rate(usage(10, None), 0) is None


def test_a_rate_is_counted_from_the_reading_before() -> None:
    rate = Rate(10 * SECOND, 2 * SECOND, 0)
    assert rate.next(usage(12, 3)).nano_cores == SECOND // 2
    assert rate.next(usage(12, None)) is rate
    assert rate.next(usage(10.1, 2.1)) is rate, "over a tenth of a second it is noise"


def test_a_counter_or_clock_that_goes_back_begins_anew() -> None:
    rate = Rate(10 * SECOND, 2 * SECOND, 5)
    assert rate.next(usage(12, 1)) == Rate(12 * SECOND, SECOND, None)
    assert rate.next(usage(9, 3)) == Rate(9 * SECOND, 3 * SECOND, None)
