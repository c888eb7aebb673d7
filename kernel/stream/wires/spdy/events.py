"""The events of a connection. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer has made a stream and waits for `Connection.reply` or `Connection.reset`."""

    stream: int
    headers: dict[str, str]
    fin: bool
    """Whether the peer sends no data on it."""


@dataclass(frozen=True, slots=True)
class Replied:
    """The peer has accepted a stream of this side."""

    stream: int
    headers: dict[str, str]
    fin: bool
    """Whether the peer sends no data on it."""


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of a stream's data, of any length."""

    stream: int
    data: memoryview
    """Valid until the next piece is received."""
    fin: bool
    """Whether it is the last piece."""


@dataclass(frozen=True, slots=True)
class Reset:
    """A stream has ended in both directions: the peer has abandoned it, or broke its flow control."""

    stream: int
    status: int


@dataclass(frozen=True, slots=True)
class Window:
    """More can be sent on a stream; on any of them if `stream` is 0."""

    stream: int


@dataclass(frozen=True, slots=True)
class GoneAway:
    """The peer makes no more streams."""


Event = Opened | Replied | Data | Reset | Window | GoneAway
