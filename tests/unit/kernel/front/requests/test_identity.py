"""Which users and groups pass."""

from __future__ import annotations

import pytest

from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import InvalidInput
from kernel.front.requests import identity


def context(**fields: object) -> cri.LinuxContainerSecurityContext:
    return cri.LinuxContainerSecurityContext(**fields)  # type: ignore[arg-type]


def number(value: int) -> cri.Int64Value:
    return cri.Int64Value(value=value)


def test_what_is_not_set_is_none_and_root_is_set() -> None:
    assert identity.run_as("f", context(), "") == (None, None, ())
    given = context(run_as_user=number(0), run_as_group=number(0), supplemental_groups=[7])
    assert identity.run_as("f", given, "") == (0, 0, (7,))
    assert identity.run_as("f", context(run_as_group=number(5)), "name") == (None, 5, ())


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("run_as_user", context(run_as_user=number(-1))),
        ("run_as_user", context(run_as_user=number(1 << 31))),
        ("run_as_group", context(run_as_group=number(5))),
        ("run_as_group", cri.LinuxSandboxSecurityContext(run_as_group=number(0))),
        ("supplemental_groups", context(supplemental_groups=range(65537))),
        (r"supplemental_groups\[1\]", context(supplemental_groups=[1, -1])),
    ],
)
def test_a_fault_names_its_field(
    field: str, given: cri.LinuxContainerSecurityContext | cri.LinuxSandboxSecurityContext
) -> None:
    with pytest.raises(InvalidInput, match=rf"^f\.{field}: "):
        identity.run_as("f", given, "")
