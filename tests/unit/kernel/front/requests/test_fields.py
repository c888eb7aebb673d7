"""Checks of single fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import InvalidInput
from kernel.front.requests import fields


@given(st.text())
def test_a_name_that_passes_is_safe_in_a_path(value: str) -> None:
    try:
        fields.name("f", value)
    except InvalidInput:
        return
    assert value not in {"", ".", ".."}
    assert not set(value) & {"/", "\0", "\n", "\x7f"}


@given(st.text(alphabet="a./\0\n", max_size=12))
def test_a_path_that_passes_stays_where_it_says(value: str) -> None:
    for check in (fields.path, fields.relative_path):
        try:
            check("f", value)
        except InvalidInput:
            continue
        assert ".." not in value.split("/")
        assert value.startswith("/") == (check is fields.path)


@pytest.mark.parametrize("value", ["0", "0-3", "0-3,7,9-11"])
def test_a_cpuset(value: str) -> None:
    assert fields.cpuset("f", value) == value


@pytest.mark.parametrize("value", ["0-99999999", "a", "1,", "-1", "0\n", "0,3-2"])
def test_no_cpuset(value: str) -> None:
    with pytest.raises(InvalidInput, match="f: "):
        fields.cpuset("f", value)


def test_an_address_is_normalised() -> None:
    assert fields.address("f", "FD00:0::1") == "fd00::1"
    assert fields.address("f", "") == ""
    with pytest.raises(InvalidInput, match="not an IP address"):
        fields.address("f", "10.0.0.1/8")


def test_a_number_out_of_range_says_the_range() -> None:
    with pytest.raises(InvalidInput, match="f: 2000 is not between -1000 and 1000"):
        fields.integer("f", 2000, -1000, 1000)


def test_labels_are_counted_no_further_than_they_may_be_large() -> None:
    seen = 0

    class Labels(dict[str, str]):
        def items(self):
            nonlocal seen
            for item in super().items():
                seen += 1
                yield item

    half = fields.MAX_MAP // 2
    fits = {"a": "x" * (half - 1), "b": "x" * (half - 1)}
    assert fields.strings("f", Labels(fits)) == fits
    with pytest.raises(InvalidInput, match="f: is larger than"):
        fields.strings("f", Labels(fits | {"c": ""} | {str(number): "" for number in range(1000)}))
    assert seen == len(fits) + 3
