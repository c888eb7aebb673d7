"""Errors of the operating system as errors of crisp."""

from __future__ import annotations

import errno
import os

import pytest

from kernel.errors import CrispError, Internal, InvalidInput, ResourceExhausted, from_os


@pytest.mark.parametrize(
    ("number", "otherwise", "kind"),
    [
        (errno.ENOSPC, Internal, ResourceExhausted),
        (errno.EDQUOT, Internal, ResourceExhausted),
        (errno.EFBIG, InvalidInput, ResourceExhausted),
        (errno.EACCES, Internal, Internal),
        (errno.EACCES, InvalidInput, InvalidInput),
    ],
)
def test_no_room_is_told_from_all_else(number: int, otherwise: type[CrispError], kind: type[CrispError]) -> None:
    error = from_os(OSError(number, os.strerror(number), "/some/file"), "layer x cannot be stored", otherwise)
    assert type(error) is kind
    assert error.message == f"layer x cannot be stored: {os.strerror(number)}"


def test_an_error_without_a_number_has_its_text() -> None:
    assert from_os(OSError("cut off"), "layer x").message == "layer x: cut off"
