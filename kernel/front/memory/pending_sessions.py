"""Sessions that were asked for and whose clients are to come: what they are to do stays here. Pure.

The stream process hears of a session only what it needs to know its client by: what was asked for comes from here, so
that nothing a client sends decides what is run.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel.contracts.stream import ExpectRequest
from kernel.errors import ResourceExhausted
from kernel.ids import SessionId

MOST = 1000
LIFE_NS = 60 * 10**9


@dataclass(frozen=True, slots=True)
class Pending:
    """One session."""

    expected: ExpectRequest
    command: tuple[str, ...] = ()
    """Of an exec."""


class PendingSessions:
    """Times are CLOCK_BOOTTIME in nanoseconds."""

    def __init__(self) -> None:
        self._pending: dict[SessionId, Pending] = {}

    def add(self, pending: Pending, now_ns: int) -> None:
        """Remember one; ResourceExhausted where there are too many."""
        self._pending = {one.expected.session: one for one in self.all(now_ns)}
        if len(self._pending) >= MOST:
            raise ResourceExhausted(
                f"{MOST} sessions of exec, attach and port-forward wait for their clients",
                hint="those that nobody comes for are forgotten after a minute",
            )
        self._pending[pending.expected.session] = pending

    def take(self, session: SessionId) -> Pending | None:
        """The client has come: the stream process has seen to it that it came in time."""
        return self._pending.pop(session, None)

    def all(self, now_ns: int) -> list[Pending]:
        """Those that have not expired."""
        return [one for one in self._pending.values() if one.expected.expires_ns > now_ns]
