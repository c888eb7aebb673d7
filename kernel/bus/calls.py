"""The states of the calls to one worker, as its caller keeps them. Pure: events in, calls to send out.

    state      connected     lost                        settled
    WAITING    → SENT, send  WAITING                     gone
    SENT       (impossible)  repeatable → WAITING        gone
                             else → gone, Unavailable

A call is sent again after its worker died, with the same id, until its deadline; one that may not be repeated fails
if it had been sent.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Generic, TypeVar

_Token = TypeVar("_Token")


class State(enum.Enum):
    """The state of an open call."""

    WAITING = "waiting"
    """Not sent over the present connection, if there is one."""
    SENT = "sent"


@dataclass(slots=True)
class _Entry(Generic[_Token]):
    token: _Token
    repeat: bool
    state: State


class Calls(Generic[_Token]):
    """The open calls by id; `_Token` is what the driver needs to send and settle one."""

    def __init__(self) -> None:
        self._open: dict[bytes, _Entry[_Token]] = {}
        self.up = False
        """Whether the worker is connected."""

    def add(self, call: bytes, token: _Token, *, repeat: bool) -> bool:
        """Open a call. Returns True if it must be sent now."""
        if call in self._open:
            raise ValueError("call ids are used once")
        self._open[call] = _Entry(token, repeat, State.SENT if self.up else State.WAITING)
        return self.up

    def unsent(self, call: bytes) -> None:
        """Record that a call could not be sent: the connection is gone, and `lost` will follow."""
        if call in self._open:
            self._open[call].state = State.WAITING

    def connected(self) -> list[_Token]:
        """Record that the worker is connected. Returns the calls to send."""
        self.up = True
        waiting = [entry for entry in self._open.values() if entry.state is State.WAITING]
        for entry in waiting:
            entry.state = State.SENT
        return [entry.token for entry in waiting]

    def lost(self) -> list[_Token]:
        """Record that the worker is gone. Returns the calls that fail for that reason."""
        self.up = False
        failing = [call for call, entry in self._open.items() if entry.state is State.SENT and not entry.repeat]
        tokens = [self._open.pop(call).token for call in failing]
        for entry in self._open.values():
            entry.state = State.WAITING
        return tokens

    def find(self, call: bytes) -> _Token | None:
        """Return an open call's token; None if the call has ended."""
        entry = self._open.get(call)
        return entry.token if entry else None

    def settle(self, call: bytes) -> _Token | None:
        """End a call and return its token; None if it had ended already."""
        entry = self._open.pop(call, None)
        return entry.token if entry else None
