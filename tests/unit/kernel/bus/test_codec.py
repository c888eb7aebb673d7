"""What a header may be, by the `msgpack` package itself, and what is refused before anybody looks at its fields."""

from __future__ import annotations

import subprocess
import sys

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernel.bus import codec
from kernel.bus.codec import MAX_BYTES, MAX_FIELDS, MAX_HEADER, MAX_TEXT, pack_header, unpack_header
from kernel.errors import InvalidInput

FIELDS: dict[str, object] = {"type": "cancel", "id": bytes(16), "n": 2**63, "é": ""}


def test_plain_msgpack_reads_what_is_packed_and_packs_what_is_read() -> None:
    assert msgpack.unpackb(pack_header(FIELDS)) == FIELDS
    assert unpack_header(msgpack.packb(FIELDS)) == FIELDS


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "does not begin with a map"),
        (b"\x83", "incomplete"),
        (b"\xc1", "does not begin with a map"),
        (b"\xde\x00\x01\xa1n\x01", "does not begin with a map"),
        (b"\xdf\xff\xff\xff\xff", "does not begin with a map"),
        (b"\x80" * (MAX_HEADER + 1), f"{MAX_HEADER + 1} bytes, more than {MAX_HEADER}"),
        (msgpack.packb({"n": 1}) + b"\x80", "extra"),
        (b"\x82\xa1n\x01\xa1n\x02", "a field twice"),
        (b"\x82\xa1n\x01\xd9\x01n\x02", "a field twice"),
        (b"\x81\xa1n\xc1", "is not read"),
        (b"\x81\xa1n\xa2\xc3\x28", "decode"),
        (b"\x81\xa1n\xa3\xed\xa0\x80", "decode"),
        (b"\x81\xa2\xc3\x28\x01", "decode"),
        (b"\x81\x01\x01", "not allowed"),
        (b"\x81\xc0\x01", "not allowed"),
        (b"\x81\x80\x01", "not allowed"),
        (msgpack.packb({"n": [1]}), "exceeds max_array_len"),
        (b"\x81\xa1n\xdd\xff\xff\xff\xff", "exceeds max_array_len"),
        (b"\x81\xa1n\xdf\xff\xff\xff\xff", "exceeds max_map_len"),
        (b"\x81\xa1n\xdb\xff\xff\xff\xff", "incomplete"),
        (b"\x81\xa1n\xc6\xff\xff\xff\xff", "incomplete"),
        (b"\x81\xa1n\xc9\xff\xff\xff\xff\x01", "exceeds max_ext_len"),
        (msgpack.packb({"n": msgpack.ExtType(5, b"x")}), "exceeds max_ext_len"),
        (b"\x81\xa1n\xc7\x00\x05", "extension type 5"),
        (b"\x81\xa1n\xc7\x00\xff", "is not read"),
        (msgpack.packb({"n": msgpack.Timestamp(1)}), "exceeds max_ext_len"),
        (msgpack.packb({"n": "x" * (MAX_TEXT + 1)}), "exceeds max_str_len"),
        (msgpack.packb({"n": bytes(MAX_BYTES + 1)}), "exceeds max_bin_len"),
        (msgpack.packb({str(n): n for n in range(MAX_FIELDS + 1)}), "exceeds max_map_len"),
        (msgpack.packb({str(n): n for n in range(16)}), "does not begin with a map"),
        (b"\x81\xa1n" * 85, "incomplete"),
    ],
)
def test_what_is_no_header_is_refused(frame: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        unpack_header(frame)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": "x" * MAX_TEXT},
        {"n": bytes(MAX_BYTES)},
        {str(n): n for n in range(MAX_FIELDS)},
        {"a": "x" * MAX_TEXT, "b": "x" * MAX_TEXT, "c": "x" * MAX_TEXT, "d": "x" * 47},
    ],
    ids=["text", "bytes", "fields", "all"],
)
def test_a_header_at_its_limits_is_read(fields: dict[str, object]) -> None:
    assert unpack_header(pack_header(fields)) == fields


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 2**64 - 1) | st.binary(), inner),
)


@given(ANYTHING.map(msgpack.packb) | st.binary(max_size=300))
@example(b"\x81\xa1n" * 85 + b"\x80")
def test_no_bytes_do_more_than_be_refused(frame: bytes) -> None:
    try:
        fields = unpack_header(frame)
    except InvalidInput:
        return
    assert len(frame) <= MAX_HEADER
    assert type(fields) is dict
    assert len(fields) <= MAX_FIELDS


def test_the_extension_of_msgpack_is_in_use_whatever_the_environment_asks_for() -> None:
    assert type(codec._packer).__module__ == "msgpack._cmsgpack"
    asked = (
        "import os; os.environ['MSGPACK_PUREPYTHON'] = '1'; import kernel.bus.codec as c; print(c.Packer.__module__)"
    )
    printed = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=30, check=True)
    assert printed.stdout == "msgpack._cmsgpack\n"
