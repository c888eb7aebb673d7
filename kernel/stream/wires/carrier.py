"""What the protocols have in common: a wire carries the channels of one session over one client's connection."""

from __future__ import annotations

from typing import Protocol

from kernel.stream.client.link import Link
from kernel.stream.wires.channel import MOST_BACKLOG, Channel

MOST_WAITING = 4 << 20
"""Bytes that may wait for the readers of all channels together before no more is read."""


class Owner(Protocol):
    """The session, as the wire sees it."""

    wire: Wire

    def opened(self, channel: Channel, headers: dict[str, str]) -> str:
        """The client wants a channel: empty where it is taken, else why not."""

    def lost(self) -> None:
        """The client has gone, or has broken the protocol."""

    def active(self) -> None:
        """Bytes of the session went in or out."""


class Wire(Protocol):
    """The session's side of a wire."""

    link: Link

    def close(self) -> None:
        """The session is over: say so to the client, after all that was sent."""


class Backlog:
    """What waits for the readers of a wire's channels, and stops the client before it becomes much."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: dict[object, int] = {}
        self._all = 0

    def set(self, channel: object, size: int) -> None:
        """So many bytes wait for the channel's reader now."""
        self._all += size - self._waiting.pop(channel, 0)
        if size:
            self._waiting[channel] = size
        if size > MOST_BACKLOG:
            self._link.hold(channel)
        else:
            self._link.release(channel)
        if self._all > MOST_WAITING:
            self._link.hold(self)
        else:
            self._link.release(self)
