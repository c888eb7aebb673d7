"""Windows of streams and of the connection."""

from __future__ import annotations

import pytest

from kernel.stream.wires.spdy import MOST_DATA, MOST_STREAMS, WINDOW, ProtocolError
from kernel.stream.wires.spdy.frames import LARGEST_ID, window_update
from kernel.stream.wires.spdy.streams import Streams


def test_a_stream_is_forgotten_once_it_has_ended_both_ways() -> None:
    streams = Streams()
    one, two = streams.add(1), streams.add(3)
    streams.end(1, one)
    assert streams.get(1) is one
    streams.finish(1, one)
    streams.finish(3, two)
    streams.end(3, two)
    assert (streams.get(1), streams.get(3)) == (None, None)
    assert not streams.drop(1)
    for number in range(MOST_STREAMS):
        assert not streams.full
        streams.add(number)
    assert streams.full


def test_windows_bound_from_the_first_that_the_peer_shows() -> None:
    streams = Streams()
    known = streams.add(1)
    streams.sent(known, 3 * WINDOW)
    assert (streams.room(1), streams.room(3)) == (MOST_DATA, 0)
    assert streams.grow(9, 1)  # of a stream that is not open: but it shows that there are windows
    assert streams.room(1) == 0
    assert streams.grow(1, 4 * WINDOW)
    assert streams.room(1) == 0
    assert streams.grow(0, 4 * WINDOW)
    assert streams.room(1) == 2 * WINDOW
    streams.start_with(WINDOW - 10)
    assert streams.room(1) == 2 * WINDOW - 10
    known.finished = True
    assert streams.room(1) == 0


def test_windows_have_31_bits() -> None:
    streams = Streams()
    streams.add(1)
    assert not streams.grow(1, 0)
    assert not streams.grow(1, LARGEST_ID - WINDOW + 1)
    assert streams.grow(1, LARGEST_ID - WINDOW)
    with pytest.raises(ProtocolError, match="cannot grow by 0"):
        streams.grow(0, 0)
    with pytest.raises(ProtocolError, match="cannot grow"):
        streams.grow(0, LARGEST_ID - WINDOW + 1)


def test_the_peer_is_credited_by_half_windows() -> None:
    streams = Streams()
    known = streams.add(1)
    assert streams.consumed(1, WINDOW // 2 - 1) == b""
    assert streams.consumed(1, 1) == window_update(0, WINDOW // 2) + window_update(1, WINDOW // 2)
    assert streams.consumed(9, WINDOW) == window_update(0, WINDOW)
    known.ended = True
    assert streams.consumed(1, WINDOW) == window_update(0, WINDOW)
