from __future__ import annotations

import signal

import pytest

from kernel.errors import InvalidInput
from services.runtime.exits import stop_signal


def test_choose() -> None:
    assert stop_signal.choose("", "") == "SIGTERM"
    assert stop_signal.choose("", "quit") == "SIGQUIT"
    assert stop_signal.choose("SIGUSR1", "SIGQUIT") == "SIGUSR1"
    assert stop_signal.choose("", "nonsense") == "SIGTERM"
    assert stop_signal.choose("RUNTIME_DEFAULT", "9") == "SIGKILL"
    with pytest.raises(InvalidInput, match="stop_signal"):
        stop_signal.choose("SIGNOPE", "")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15), ("term", 15), ("15", 15), ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("RTMAX-1", signal.SIGRTMAX - 1),
        ("37", 37), ("0", None), ("65", None), ("RTMIN+99", None), ("\u0661", None), ("", None), ("-1", None),
    ],
)  # fmt: skip
def test_number(text: str, number: int | None) -> None:
    assert stop_signal.number(text) == number
