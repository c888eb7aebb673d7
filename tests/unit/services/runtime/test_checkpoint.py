from __future__ import annotations

from services.runtime import checkpoint


def test_the_first_of_crius_errors_is_the_cause() -> None:
    said = b"Warn  (a.c:1): slow\nError (b.c:2): the cause\nError (c.c:3): what follows\n"
    assert checkpoint.first_error(said) == "Error (b.c:2): the cause"
    assert checkpoint.first_error(b"\xff") == "it does not say why"
