"""What clients are told at the end."""

from __future__ import annotations

import json

from kernel.stream.sessions import end_status


def test_success() -> None:
    assert json.loads(end_status.ended(0, plain=False)) == {"metadata": {}, "status": "Success"}
    assert end_status.ended(0, plain=True) == b""


def test_an_exit_code() -> None:
    found = json.loads(end_status.ended(7, plain=False))
    assert (found["status"], found["reason"]) == ("Failure", "NonZeroExitCode")
    assert found["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]
    assert b"7" in end_status.ended(7, plain=True)


def test_a_failure_is_said_in_words() -> None:
    found = json.loads(end_status.failed("no such program", plain=False))
    assert found["reason"] == "InternalError"
    assert "no such program" in found["message"]
    assert end_status.failed("no such program", plain=True) == b"no such program"
