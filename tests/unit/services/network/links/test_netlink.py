"""Attributes and messages go in and out whole; what is cut off is dropped."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from services.network.links import netlink


@given(st.dictionaries(st.integers(1, 100), st.binary(max_size=40), max_size=6))
def test_attributes_come_out_as_they_went_in(some: dict[int, bytes]) -> None:
    data = b"".join(netlink.attribute(kind | netlink.NESTED, payload) for kind, payload in some.items())
    assert netlink.attributes(data) == some


@given(st.binary(max_size=200))
def test_anything_is_read_without_an_error(data: bytes) -> None:
    netlink.attributes(data)
    list(netlink.messages(data))


def test_messages_are_told_apart() -> None:
    first = struct.pack("=IHHII", 21, 7, 0, 1, 0) + b"hello" + bytes(3)
    second = struct.pack("=IHHII", 16, 8, 0, 1, 0)
    assert list(netlink.messages(first + second)) == [(7, b"hello"), (8, b"")]
    assert list(netlink.messages(first[:18])) == []
