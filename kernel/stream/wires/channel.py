"""One channel of bytes between a client and a session, whatever protocol carries it.

The protocol's side makes a channel and calls the four hooks that the session has set; the session calls the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

MOST_BACKLOG = 256 << 10
"""Bytes that may wait for a channel's reader before no more is read from its client."""


class Channel(ABC):
    """Both directions; either may stay unused."""

    def __init__(self) -> None:
        self.on_data: Callable[[memoryview], None] = self._throw_away
        """A piece came in; it is good until the hook returns. Whoever sets this says when it is `consumed`."""
        self.on_end: Callable[[], None] = _nothing
        """The client sends no more."""
        self.on_room: Callable[[], None] = _nothing
        """More can be sent now."""
        self.on_reset: Callable[[], None] = _nothing
        """The client has given the channel up."""

    @abstractmethod
    def room(self) -> int:
        """How many bytes can be sent now; what is beyond waits in memory."""

    @abstractmethod
    def send(self, data: memoryview) -> None:
        """Send a piece. Nothing of `data` is kept."""

    @abstractmethod
    def finish(self) -> None:
        """Send no more, and tell the client so, where the protocol can."""

    @abstractmethod
    def reset(self) -> None:
        """Give the channel up."""

    @abstractmethod
    def waiting(self, size: int) -> None:
        """So many bytes wait for the reader now."""

    @abstractmethod
    def consumed(self, size: int) -> None:
        """The reader has taken so many bytes more."""

    def _throw_away(self, data: memoryview) -> None:
        self.consumed(len(data))


def _nothing() -> None:
    """Nobody asks."""
