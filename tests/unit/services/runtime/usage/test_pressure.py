"""Pressure files of new and old kernels, and none."""

from __future__ import annotations

import pytest

from kernel.contracts.stats import Stall
from services.runtime.usage import pressure


def test_both_lines_are_read_and_microseconds_become_nanoseconds() -> None:
    found = pressure.parse(
        "some avg10=1.25 avg60=0.50 avg300=0.01 total=17327\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=13734\n"
    )
    assert found is not None
    assert found.some == Stall(total=17_327_000, avg10=1.25, avg60=0.5, avg300=0.01)
    assert found.full.total == 13_734_000


def test_a_kernel_without_the_second_line_for_cpu() -> None:
    found = pressure.parse("some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n")
    assert found is not None
    assert (found.some.total, found.full.total) == (5000, 0)


@pytest.mark.parametrize("text", [None, "", "some avg10=x\n", "full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n"])
def test_nothing_is_made_of_nothing(text: str | None) -> None:
    assert pressure.parse(text) is None
