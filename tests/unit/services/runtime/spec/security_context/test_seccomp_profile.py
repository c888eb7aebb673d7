"""What is refused as a seccomp profile, and where its fault is reported."""

from __future__ import annotations

import json

import pytest

from kernel.errors import InvalidInput
from services.runtime.spec.security_context import seccomp_profile
from tests.unit.services.runtime.spec.security_context.test_seccomp_rules import document, rule


@pytest.mark.parametrize(
    "wrong",
    [
        b"", b"{", b"[]", b'"x"', b"{}", b"\xff", b"[" * 100_000, b'{"defaultAction": 1}',
        b'{"defaultAction": "SCMP_ACT_PRAY"}', b" " * ((1 << 20) + 1),
        *(json.dumps(text).encode() for text in (
            document({"action": "SCMP_ACT_ALLOW"}),
            document(rule("a b")),
            document(rule("../x")),
            document(rule("x", action="SCMP_ACT_ERRNO", errnoRet=-1)),
            document(rule("x", action="SCMP_ACT_ERRNO", errnoRet=4096)),
            document(rule("x", action="SCMP_ACT_ERRNO", errno="ENOTHING")),
            document(rule("x", action="SCMP_ACT_ERRNO", errno="__doc__")),
            document(rule("x", args=[{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}])),
            document(rule("x", args=[{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}])),
            document(rule("x", args=[{"index": 0, "value": 2**64, "op": "SCMP_CMP_EQ"}])),
            document(rule("x", args=[{"index": 0, "value": 0, "op": "SCMP_CMP_LIKE"}])),
            document(rule("x", includes={"minKernel": "new"})),
            document(architectures=["x86_64; rm"]),
            document(archMap=[{"architecture": ""}]),
            document(flags=["-x"]),
            document(listenerPath="relative"),
            document(defaultErrnoRet=70000),
        )),
    ],
)  # fmt: skip
def test_what_is_no_profile_is_refused_by_its_name(wrong: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"^the\.field: "):
        seccomp_profile.parse(wrong, "the.field")


def test_the_place_of_a_fault_is_told() -> None:
    given = document(rule("x"), rule("y", args=[{"index": 9, "value": 0, "op": "SCMP_CMP_EQ"}]))
    with pytest.raises(InvalidInput, match=r"syscalls\[1\]: args: 9 is not"):
        seccomp_profile.parse(json.dumps(given).encode(), "profile")
