"""Reasons are in our own words, and what may be gone in a moment is known."""

import ssl

import h11
import pytest

from kernel.errors import Unavailable
from services.image.registry.failures import Transient, guarded, is_transient, reason_of, status_text
from services.image.registry.http_connection import BrokenOff, Disconnected


@pytest.mark.parametrize(
    ("error", "reason", "transient"),
    [
        (TimeoutError("x"), "stalled: no byte within the progress timeout", True),
        (BrokenOff("secret"), "broke off before the end", True),
        (Disconnected("x"), "closed the connection", True),
        (ConnectionResetError(104, "reset"), "closed the connection", True),
        (OSError(113, "No route to host"), "No route to host", True),
        (ssl.SSLError(1, "x"), "TLS failed: the connection was closed", True),
        (h11.RemoteProtocolError("secret"), "sent malformed HTTP", False),
        (ValueError("secret"), "ValueError", False),
    ],
)
def test_why_a_connection_failed(error: Exception, reason: str, transient: bool) -> None:
    def step() -> None:
        raise error

    assert reason_of(error) == reason
    with pytest.raises(Unavailable) as caught:
        guarded("a.example", step)
    assert str(caught.value) == f"registry a.example: {reason}"
    assert is_transient(caught.value) == transient


def test_other_causes_are_final() -> None:
    error = Unavailable("x")
    assert not is_transient(error)
    error.__cause__ = Transient()
    assert is_transient(error)


def test_statuses_are_in_our_words() -> None:
    assert (status_text(404), status_text(799)) == ("404 Not Found", "799")
