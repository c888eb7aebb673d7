"""Signals of the CRI and their names."""

from __future__ import annotations

from kernel.cri.generated import cri_pb2 as cri
from kernel.front.requests.stop_signal import signal_name, signal_number


def test_every_signal_has_a_name_and_its_name_is_known() -> None:
    for number in cri.Signal.values():
        name = signal_name(number)
        assert signal_number(name) == number
    assert signal_name(cri.SIGNAL_SIGRTMINPLUS3) == "SIGRTMIN+3"
    assert signal_number("QUIT") == cri.SIGNAL_SIGQUIT
    assert signal_number("SIGNONE") == cri.SIGNAL_RUNTIME_DEFAULT
