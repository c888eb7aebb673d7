"""What a worker makes of a child's words."""

from __future__ import annotations

import msgspec
import pytest

from kernel.errors import Internal, InvalidInput
from services.storage.confined import refusal


def test_an_error_that_says_what_it_is_about() -> None:
    error = refusal.decode(b'{"error": "InvalidInput", "message": "m", "hint": "h"}').to_error("layer 1")
    assert (type(error), str(error)) == (InvalidInput, "layer 1: m; h")


def test_a_kind_that_does_not_exist_is_internal() -> None:
    assert type(refusal.decode(b'{"error": "SystemExit", "message": ""}').to_error()) is Internal


@pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b'{"error": 1, "message": ""}', b"\xff"])
def test_what_is_no_refusal(answer: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        refusal.decode(answer)


def test_a_child_that_failed() -> None:
    assert refusal.failure(-9, b"") == "ended by SIGKILL: without a message"
    assert refusal.failure(1, b"Traceback\n" + b"x" * 600 + b"\n") == "exit status 1: " + "x" * 500
