"""What fits on the screen of `crisp top`."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from kernel.cli.usage.screen import Rows, draw
from kernel.cli.usage.view import Order, View
from tests.unit.kernel.cli.usage.test_view import PODS, PROCESSES, pressed


def drawn(view: View, height: int = 24, problem: str = "") -> list[str]:
    written = io.StringIO()
    console = Console(file=written, width=120, height=height, force_terminal=False)
    console.print(draw(Rows(PROCESSES, PODS, problem), view, height), end="")
    return written.getvalue().splitlines()


def test_all_of_it() -> None:
    lines = drawn(View())
    assert len(lines) == 24
    assert lines[0].startswith("crisp: 3 processes, CPU 20.5 %, memory 29.0 MB, up 100s; 3 pods, 3 containers, CPU 9.0")
    assert lines[2].split()[0] == "NAME"
    assert lines[7].split()[0] == "ID"
    assert all(f"{order.key} {order.label}" in lines[-2] for order in Order)
    assert "q quit" in lines[-1]
    assert len(lines[-2].rstrip()) <= 80
    assert len(lines[-1].rstrip()) <= 80


@pytest.mark.parametrize("height", [5, 8, 10, 12])
def test_a_low_screen_shows_the_keys_all_the_same(height: int) -> None:
    lines = drawn(View(), height)
    assert len(lines) == height
    assert "q quit" in lines[-1]


def test_what_is_chosen() -> None:
    assert not any("CONTAINER" in line for line in drawn(pressed("s")))
    only_pods = drawn(View(offset=4).press("s").press("s"))  # type: ignore[union-attr]
    assert not any("STATE" in line for line in only_pods)
    assert "s shown: pods" in only_pods[-1]
    scrolled = drawn(View(offset=4))
    assert [line.split()[:3] for line in scrolled[8:10]] == [["y" * 13, "a", "y"], ["x" * 13, "a", "x"]]


def test_a_problem_is_shown_clean() -> None:
    lines = drawn(View(), problem="the front is away\x1b[2J")
    assert lines[1].rstrip() == "the front is away?[2J"
    assert len(lines) == 24
