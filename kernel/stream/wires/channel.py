"""One channel of bytes between a client and a session, by any protocol.

The protocol's side makes a channel and calls the four hooks that the session has set; the session calls the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

MOST_BACKLOG = 256 << 10
"""The most bytes that may wait for a channel's reader before reading from its client stops."""


class Channel(ABC):
    """A channel in both directions; either may stay unused."""

    def __init__(self) -> None:
        self.on_data: Callable[[memoryview], None] = self._throw_away
        """Called with each piece that arrives, valid until the hook returns. `consumed` follows for all its bytes."""
        self.on_end: Callable[[], None] = _nothing
        """Called when the client sends no more."""
        self.on_room: Callable[[], None] = _nothing
        """Called when more can be sent."""
        self.on_reset: Callable[[], None] = _nothing
        """Called when the client has abandoned the channel."""

    @abstractmethod
    def room(self) -> int:
        """Return how many bytes can be sent now; any further ones would wait in memory."""

    @abstractmethod
    def send(self, data: memoryview) -> None:
        """Send a piece. `data` is not kept after this returns."""

    @abstractmethod
    def finish(self) -> None:
        """Send no more, and report that to the client if the protocol can."""

    @abstractmethod
    def reset(self) -> None:
        """Abandon the channel."""

    @abstractmethod
    def set_backlog(self, size: int) -> None:
        """Note that `size` bytes wait for the reader now."""

    @abstractmethod
    def consumed(self, size: int) -> None:
        """Note that the reader has taken `size` bytes more."""

    def _throw_away(self, data: memoryview) -> None:
        self.consumed(len(data))


def _nothing() -> None:
    """Do nothing."""
