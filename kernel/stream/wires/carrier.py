"""The common part of the protocols: a wire carries the channels of one session over one client's connection."""

from __future__ import annotations

from typing import Protocol

from kernel.stream.client.client_connection import ClientConnection
from kernel.stream.wires.channel import MOST_BACKLOG, Channel

MOST_WAITING = 4 << 20
"""The most bytes that may wait for the readers of all channels together before reading from the client stops."""


class Owner(Protocol):
    """The session, as the wire uses it."""

    wire: Wire

    def opened(self, channel: Channel, headers: dict[str, str]) -> str:
        """Accept a channel that the client opens. Returns the reason if it is refused, else an empty string."""

    def lost(self) -> None:
        """End the session: the client has gone, or has broken the protocol."""

    def active(self) -> None:
        """Note that bytes of the session went in or out."""


class Wire(Protocol):
    """The part of a wire that a session uses."""

    client: ClientConnection

    def close(self) -> None:
        """Report to the client that the session is over, after all that was sent."""


class Backlog:
    """A count of the bytes that wait for the readers of a wire's channels, which stops reading before they are too
    many."""

    def __init__(self, client: ClientConnection) -> None:
        self._client = client
        self._waiting: dict[object, int] = {}
        self._all = 0

    def set(self, channel: object, size: int) -> None:
        """Note that `size` bytes wait for the channel's reader now."""
        self._all += size - self._waiting.pop(channel, 0)
        if size:
            self._waiting[channel] = size
        if size > MOST_BACKLOG:
            self._client.hold(channel)
        else:
            self._client.release(channel)
        if self._all > MOST_WAITING:
            self._client.hold(self)
        else:
            self._client.release(self)
