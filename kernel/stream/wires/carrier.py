"""What the protocols have in common: a wire carries the channels of one session over one client's connection."""

from __future__ import annotations

from typing import Protocol

from kernel.stream.client.client_connection import ClientConnection
from kernel.stream.wires.channel import MOST_BACKLOG, Channel

MOST_WAITING = 4 << 20
"""How many bytes may wait for the readers of all channels together before reading from the client stops."""


class Owner(Protocol):
    """The session, as the wire sees it."""

    wire: Wire

    def opened(self, channel: Channel, headers: dict[str, str]) -> str:
        """Accept a channel that the client wants. Returns the reason if it is refused, else an empty string."""

    def lost(self) -> None:
        """End the session: the client has gone, or has broken the protocol."""

    def active(self) -> None:
        """Note that bytes of the session went in or out."""


class Wire(Protocol):
    """The session's side of a wire."""

    client: ClientConnection

    def close(self) -> None:
        """Tell the client that the session is over, after all that was sent."""


class Backlog:
    """Counts what waits for the readers of a wire's channels, and stops reading before it is too much."""

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
