"""Frames to bytes and back, in pieces of any size."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.stream.wires.spdy import ProtocolError, frames
from kernel.stream.wires.spdy.frames import Control, FrameReader, Kind

WRITTEN = (
    frames.syn_stream(1, b"block", fin=True), frames.syn_reply(1, b"block"), frames.rst_stream(1, 5),
    frames.settings(1000), frames.ping(7), frames.goaway(3, 1), frames.window_update(0, 10),
    frames.data_head(1, 3, fin=False) + b"abc", frames.data_head(1, 0, fin=True),
)  # fmt: skip
READ = (
    Control(Kind.SYN_STREAM, frames.FIN, struct.pack(">II", 1, 0) + b"\0\0block"),
    Control(Kind.SYN_REPLY, 0, struct.pack(">I", 1) + b"block"),
    Control(Kind.RST_STREAM, 0, struct.pack(">II", 1, 5)), Control(Kind.SETTINGS, 0, struct.pack(">III", 1, 7, 1000)),
    Control(Kind.PING, 0, struct.pack(">I", 7)), Control(Kind.GOAWAY, 0, struct.pack(">II", 3, 1)),
    Control(Kind.WINDOW_UPDATE, 0, struct.pack(">II", 0, 10)),
)  # fmt: skip


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_frames_come_back(cuts: list[int]) -> None:
    data, reader, found, turn = b"".join(WRITTEN), FrameReader(), [], 0
    while data:
        size = cuts[turn % len(cuts)]
        found += list(reader.frames(memoryview(data[:size])))
        data, turn = data[size:], turn + 1
    assert tuple(one for one in found if isinstance(one, Control)) == READ
    pieces = [one for one in found if not isinstance(one, Control)]
    assert {stream for stream, _, _ in pieces} == {1}
    assert b"".join(data for _, data, _ in pieces) == b"abc"
    assert [fin for _, _, fin in pieces] == [False] * (len(pieces) - 1) + [True]


def test_what_is_long_or_of_another_version_is_refused_by_its_head() -> None:
    for head, why in (
        (struct.pack(">HHI", 0x8003, Kind.PING, frames.MOST_CONTROL + 1), "16385 bytes"),
        (struct.pack(">HHI", 0x8002, Kind.PING, 4), "version 2"),
        (struct.pack(">II", 0, 4), "stream 0"),
    ):
        with pytest.raises(ProtocolError, match=why):
            list(FrameReader().frames(memoryview(head)))


def test_bodies() -> None:
    assert frames.stream_id(struct.pack(">I", 0x80000005), 4, "x") == 5
    assert frames.pair(struct.pack(">II", 3, 9), "x") == (3, 9)
    assert frames.number(struct.pack(">I", 8)) == 8
    assert list(frames.initial_windows(struct.pack(">IIIII", 2, 4, 1, 7, 500))) == [500]
    for refused in (
        lambda: frames.stream_id(b"abc", 4, "x"),
        lambda: frames.pair(b"abc", "x"),
        lambda: frames.number(b""),
        lambda: list(frames.initial_windows(struct.pack(">I", 1))),
    ):
        with pytest.raises(ProtocolError):
            refused()
