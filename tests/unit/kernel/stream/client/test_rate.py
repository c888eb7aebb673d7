"""A burst, and then so many a second."""

from __future__ import annotations

from kernel.stream.client.rate import Rate


def test_a_burst_and_then_so_many_a_second() -> None:
    rate = Rate(3, 2)
    assert [rate.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [rate.take(101.0) for _ in range(3)] == [True, True, False]
    assert [rate.take(1000.0) for _ in range(4)] == [True, True, True, False]
