"""The open streams of a connection, and flow control (sections 2.3 and 2.6.8). Pure.

Received bytes are acknowledged by WINDOW_UPDATE as soon as the reader has taken them (`consumed`). Sent bytes keep to
the peer's windows once the peer has shown that it has any, by SETTINGS or WINDOW_UPDATE: the clients of Kubernetes
(moby/spdystream) never update a window, and read all the same.
"""

from __future__ import annotations

from kernel.stream.wires.spdy.errors import ProtocolError
from kernel.stream.wires.spdy.frames import LARGEST_ID, MOST_DATA, window_update

MOST_STREAMS = 2048
"""The most streams that may be open at once; further ones of the peer are refused."""
WINDOW = 64 << 10
"""The first window of each stream and of the connection, in bytes, until SETTINGS change it."""


class Stream:
    """The state of an open stream."""

    __slots__ = ("ended", "finished", "taken", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        """The number of bytes that the peer accepts."""
        self.taken = 0
        """Bytes that were consumed and are not acknowledged yet."""
        self.ended = False
        """Whether the peer sends no more."""
        self.finished = False
        """Whether this side sends no more."""


class Streams:
    """The open streams by id. A stream that has ended in both directions is forgotten."""

    def __init__(self) -> None:
        self._open: dict[int, Stream] = {}
        self._initial_window = WINDOW
        self._window = WINDOW
        """The number of bytes that the peer accepts on all streams together."""
        self._taken = 0
        self._strict = False
        """Whether the peer uses windows."""

    @property
    def full(self) -> bool:
        """Whether the peer may make no more streams."""
        return len(self._open) >= MOST_STREAMS

    def add(self, stream: int) -> Stream:
        """Begin a stream."""
        made = self._open[stream] = Stream(self._initial_window)
        return made

    def get(self, stream: int) -> Stream | None:
        """Return an open stream; None if it is not open in any direction."""
        return self._open.get(stream)

    def drop(self, stream: int) -> bool:
        """Forget a stream that was abandoned. Returns whether it was open."""
        return self._open.pop(stream, None) is not None

    def end(self, stream: int, known: Stream) -> None:
        """Note that the peer sends no more."""
        known.ended = True
        if known.finished:
            self._open.pop(stream, None)

    def finish(self, stream: int, known: Stream) -> None:
        """Note that this side sends no more."""
        known.finished = True
        if known.ended:
            self._open.pop(stream, None)

    # Sending.

    def room(self, stream: int) -> int:
        """Return how many bytes of a stream may be sent now; 0 if it is not open."""
        known = self._open.get(stream)
        if known is None or known.finished:
            return 0
        return max(min(known.window, self._window), 0) if self._strict else MOST_DATA

    def sent(self, known: Stream, size: int) -> None:
        """Note that a data frame is sent."""
        known.window -= size
        self._window -= size

    def start_with(self, window: int) -> None:
        """Set the initial window, which also changes that of the streams that are open (section 2.6.8)."""
        self._strict = True
        for known in self._open.values():
            known.window += window - self._initial_window
        self._initial_window = window

    def grow(self, stream: int, more: int) -> bool:
        """Enlarge the peer's window of a stream, or of the connection if `stream` is 0.

        Returns False if the stream's window cannot grow so much; raises ProtocolError if the connection's cannot. A
        stream that is not open changes nothing.
        """
        self._strict = True
        known = self._open.get(stream)
        if stream and known is None:
            return True
        before = known.window if known is not None else self._window
        possible = 0 < more <= LARGEST_ID - before
        if known is not None and possible:
            known.window += more
        elif known is None:
            if not possible:
                raise ProtocolError(f"the connection's window cannot grow by {more}")
            self._window += more
        return possible

    # Receiving.

    def consumed(self, stream: int, size: int) -> bytes:
        """Record that the reader has taken `size` bytes. Returns frames that credit the peer, if it is time for any."""
        frames = b""
        self._taken += size
        if self._taken >= WINDOW // 2:
            frames = window_update(0, self._taken)
            self._taken = 0
        known = self._open.get(stream)
        if known is not None and not known.ended:
            known.taken += size
            if known.taken >= WINDOW // 2:
                frames += window_update(stream, known.taken)
                known.taken = 0
        return frames
