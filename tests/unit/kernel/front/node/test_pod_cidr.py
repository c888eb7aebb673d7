"""The pod CIDR of UpdateRuntimeConfig."""

from __future__ import annotations

import pytest

from kernel.errors import InvalidInput
from kernel.front.node import pod_cidr


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("10.1.0.0/24", ("10.1.0.0/24",)),
        (" 10.1.0.0/24, fd00:1::/64,", ("10.1.0.0/24", "fd00:1::/64")),
    ],
)
def test_cidrs_are_told_apart(text: str, found: tuple[str, ...]) -> None:
    assert pod_cidr.parse(text) == found


@pytest.mark.parametrize("text", ["x", "10.1.0.1/24", "10.1.0.0/33", '10.0.0.0/24", "x": "', "a\nb", "::/0," * 17])
def test_others_are_refused_by_the_fields_name(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^runtime_config.network_config.pod_cidr: "):
        pod_cidr.parse(text)
