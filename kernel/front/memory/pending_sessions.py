"""Sessions of exec, attach and port-forward that have a URL but no client yet. Pure.

The purpose of a session (its command, its container) is kept here. The stream process gets only what it needs to
recognise the client, so a client cannot decide what is run.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel.contracts.stream import ExpectRequest
from kernel.errors import ResourceExhausted
from kernel.ids import SessionId

MOST = 1000
"""The most sessions that may wait for their clients."""
LIFE_NS = 60 * 10**9
"""Nanoseconds that a session waits for its client."""


@dataclass(frozen=True, slots=True)
class Pending:
    """One session that waits for its client."""

    expected: ExpectRequest
    command: tuple[str, ...] = ()
    """The command of an exec; empty for attach and port-forward."""


class PendingSessions:
    """All sessions that wait. Times are CLOCK_BOOTTIME in nanoseconds."""

    def __init__(self) -> None:
        self._pending: dict[SessionId, Pending] = {}

    def add(self, pending: Pending, now_ns: int) -> None:
        """Add a session; raises ResourceExhausted if `MOST` wait already."""
        self._pending = {one.expected.session: one for one in self.all(now_ns)}
        if len(self._pending) >= MOST:
            raise ResourceExhausted(
                f"{MOST} sessions of exec, attach and port-forward wait for their clients",
                hint="a session without a client is forgotten after a minute",
            )
        self._pending[pending.expected.session] = pending

    def take(self, session_id: SessionId) -> Pending | None:
        """Remove and return a session whose client has connected; None if it is not known.

        The stream process has checked that the client came in time.
        """
        return self._pending.pop(session_id, None)

    def all(self, now_ns: int) -> list[Pending]:
        """Return the sessions that have not expired."""
        return [one for one in self._pending.values() if one.expected.expires_ns > now_ns]
