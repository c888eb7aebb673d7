"""The life of the calls to one worker, seen from the caller's side. Pure: events in, calls to send out.

    state      connected     lost                        settled
    WAITING    → SENT, send  WAITING                     gone
    SENT       (impossible)  repeatable → WAITING        gone
                             else → gone, Unavailable

A call is asked again after its worker died, with the same id, until its deadline; one that may not be repeated
fails if it had been sent.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Generic, TypeVar

_Token = TypeVar("_Token")


class State(enum.Enum):
    """Where a call is."""

    WAITING = "waiting"
    SENT = "sent"


@dataclass(slots=True)
class _Entry(Generic[_Token]):
    token: _Token
    repeat: bool
    state: State


class Calls(Generic[_Token]):
    """Open calls by id; `_Token` is whatever the driver needs to send and settle one."""

    def __init__(self) -> None:
        self._open: dict[bytes, _Entry[_Token]] = {}
        self.up = False
        """Whether the worker is connected."""

    def add(self, call: bytes, token: _Token, *, repeat: bool) -> bool:
        """A new call; true where it is to be sent now."""
        if call in self._open:
            raise ValueError("call ids are used once")
        self._open[call] = _Entry(token, repeat, State.SENT if self.up else State.WAITING)
        return self.up

    def unsent(self, call: bytes) -> None:
        """Sending was refused: the connection is gone and `lost` will follow."""
        if call in self._open:
            self._open[call].state = State.WAITING

    def connected(self) -> list[_Token]:
        """The worker is there: what to send."""
        self.up = True
        waiting = [entry for entry in self._open.values() if entry.state is State.WAITING]
        for entry in waiting:
            entry.state = State.SENT
        return [entry.token for entry in waiting]

    def lost(self) -> list[_Token]:
        """The worker is gone: calls that fail with it."""
        self.up = False
        failing = [call for call, entry in self._open.items() if entry.state is State.SENT and not entry.repeat]
        tokens = [self._open.pop(call).token for call in failing]
        for entry in self._open.values():
            entry.state = State.WAITING
        return tokens

    def find(self, call: bytes) -> _Token | None:
        """An open call's token."""
        entry = self._open.get(call)
        return entry.token if entry else None

    def settle(self, call: bytes) -> _Token | None:
        """The call has ended; None where it had already."""
        entry = self._open.pop(call, None)
        return entry.token if entry else None
