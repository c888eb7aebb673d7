from __future__ import annotations

import struct

import pytest

from kernel.errors import Internal
from services.runtime.cgroups import dbus


def message(kind: int, fields: list[tuple[int, str, str | int]], body: bytes = b"", order: str = "<") -> bytes:
    """What a bus would send."""
    head = bytearray(16)
    for code, signature, value in fields:
        head += bytes(-len(head) % 8) + bytes([code, 1]) + signature.encode() + b"\0"
        if signature == "g":
            assert isinstance(value, str)
            head += bytes([len(value)]) + value.encode() + b"\0"
            continue
        head += bytes(-len(head) % 4)
        if isinstance(value, int):
            head += struct.pack(f"{order}I", value)
        else:
            head += struct.pack(f"{order}I", len(value)) + value.encode() + b"\0"
    length = len(head) - 16
    head += bytes(-len(head) % 8)
    mark = b"l" if order == "<" else b"B"
    struct.pack_into(f"{order}cBBBIII", head, 0, mark, kind, 0, 1, len(body), 7, length)
    return bytes(head) + body


def text(value: str, order: str = "<") -> bytes:
    return struct.pack(f"{order}I", len(value)) + value.encode() + b"\0"


def test_a_call_without_arguments() -> None:
    sent = dbus.call(1, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", dbus.Body())
    assert len(sent) % 8 == 0
    assert dbus.size(sent[: dbus.FIXED]) == len(sent)
    read = dbus.parse(sent)
    assert (read.kind, read.member, read.signature, read.body) == (dbus.CALL, "Hello", "", b"")


def test_the_properties_of_a_unit() -> None:
    body = dbus.Body().text("x.scope", "replace").properties({"Slice": "a.slice", "PIDs": [7, 8]}).no_units()
    assert body.signature == "ssa(sv)a(sa(sv))"
    expected = text("x.scope") + text("replace")
    expected += struct.pack("<I", 48)  # from here the offsets are 24, 28: no padding before the first element at 32
    expected = expected[:-4] + bytes(-len(expected[:-4]) % 4) + expected[-4:]
    expected += bytes(-len(expected) % 8)
    start = len(expected)
    expected += text("Slice") + b"\x01s\0"
    expected += bytes(-len(expected) % 4) + text("a.slice")
    expected += bytes(-len(expected) % 8) + text("PIDs") + b"\x02au\0"
    expected += bytes(-len(expected) % 4) + struct.pack("<III", 8, 7, 8)
    length = len(expected) - start
    expected += bytes(-len(expected) % 4) + struct.pack("<I", 0)
    expected += bytes(-len(expected) % 8)
    got = body.done()
    assert len(got) == len(expected)
    assert got[start:] == expected[start:]
    assert struct.pack("<I", length) in got[:start]


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_answer_in_either_order(order: str) -> None:
    body = struct.pack(f"{order}I", 3) + text("/job/3", order) + b"\0" + text("a.slice", order) + text("done", order)
    read = dbus.parse(message(dbus.SIGNAL, [(3, "s", "JobRemoved"), (8, "g", "uoss")], body, order))
    assert (read.kind, read.member) == (dbus.SIGNAL, "JobRemoved")
    assert read.words() == ["3", "/job/3", "a.slice", "done"]


def test_an_error() -> None:
    fields: list[tuple[int, str, str | int]] = [(4, "s", "org.x.NoSuchUnit"), (5, "u", 4), (8, "g", "s")]
    read = dbus.parse(message(dbus.ERROR, fields, text("not loaded")))
    assert (read.error, read.reply_to, read.words()) == ("org.x.NoSuchUnit", 4, ["not loaded"])


def test_words_end_where_they_cannot_be_read() -> None:
    read = dbus.parse(message(dbus.REPLY, [(8, "g", "sv")], text("one") + b"\x01s\0\0"))
    assert read.words() == ["one"]


def test_what_does_not_read_is_refused() -> None:
    with pytest.raises(Internal, match="cannot be read"):
        dbus.parse(message(dbus.SIGNAL, [(3, "s", "JobRemoved")])[:24])
    with pytest.raises(Internal, match="too long"):
        dbus.size(struct.pack("<cBBBIII", b"l", 2, 0, 1, 1 << 30, 1, 0))
