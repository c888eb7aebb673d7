"""Errors become status codes, all of them, in one place."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from kernel import errors
from kernel.front import interceptor

FRONT = Path(interceptor.__file__).parent


def subclasses(kind: type[errors.CrispError]) -> set[type[errors.CrispError]]:
    return {kind for below in kind.__subclasses__() for kind in (below, *subclasses(below))}


def test_every_error_of_ours_has_a_code() -> None:
    # The command line may tell its own kinds apart; it never answers a gRPC call.
    served = {kind for kind in subclasses(errors.CrispError) if not kind.__module__.startswith("kernel.cli.")}
    assert set(interceptor.STATUS) == served == set(errors.KINDS.values())


def test_no_code_is_given_twice() -> None:
    assert len(set(interceptor.STATUS.values())) == len(interceptor.STATUS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidInput("x"), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.NotFound("x"), grpc.StatusCode.NOT_FOUND),
        (errors.Corrupt("x"), grpc.StatusCode.DATA_LOSS),
    ],
)
def test_the_code_of_an_error(error: errors.CrispError, code: grpc.StatusCode) -> None:
    assert interceptor.status_of(error) is code


def test_status_codes_are_named_nowhere_else() -> None:
    naming = {path.name for path in FRONT.rglob("*.py") if "StatusCode" in path.read_text()}
    assert naming == {"interceptor.py"}


def test_the_kubelet_knows_a_refusal_of_the_policy_by_its_beginning() -> None:
    # It takes an error's message alone where the code is UNKNOWN, and compares how it begins (cri-api, pkg/errors).
    assert interceptor.status_of(errors.Untrusted("x")) is grpc.StatusCode.UNKNOWN
    assert interceptor.BEGINNINGS[errors.Untrusted].startswith("SignatureValidationFailed")
