"""When a process that died is started again, and when one that does not answer counts as dead. Pure.

Rules:
- After a first and a second death the process is restarted immediately.
- After more deaths within WINDOW seconds the pauses grow, up to a longest.
- A process that dies more than MOST times in WINDOW seconds is held down for HOLD seconds, and again after each
  further death: restarting can amplify a fault in the start-up path.
- A death before the process was ready counts twice: the next process will likely die the same way.
- A process is never given up: the cause may pass (a full disk, a wrong mount).
- A process that was ordered to end (restart, shutdown) has not died.
- A process that misses three heartbeats hangs, unless it uses CPU: then it is only late, on a host without a free
  processor, or with a request that takes long to read. If it works for BUSY seconds without an answer it hangs too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WINDOW = 30.0
MOST = 5
HOLD = 10.0
MISSED = 3
WORKS = 0.02
"""Seconds of CPU between two heartbeats that show work."""
BUSY = 10.0
_BACK_OFF = (0.0, 0.0, 0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Death:
    """A process that ended by itself."""

    at: float
    """Seconds on any clock that does not jump."""
    ready: bool
    """Whether it was ready before."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The time at which to start the process again, and the text that people see until then."""

    after: float
    """Seconds from the last death."""
    held: bool
    reason: str = ""


def judge(deaths: Sequence[Death]) -> Verdict:
    """Judge the last of the deaths so far, which are in order of time."""
    if not deaths:
        return Verdict(0.0, False)
    now = deaths[-1].at
    recent = [death for death in deaths if now - death.at <= WINDOW]
    weight = sum(1 if death.ready else 2 for death in recent)
    if len(recent) > MOST:
        return Verdict(HOLD, True, f"it died {len(recent)} times in {WINDOW:.0f} seconds")
    return Verdict(_BACK_OFF[min(weight, len(_BACK_OFF)) - 1], False)


def remember(deaths: Sequence[Death], death: Death) -> tuple[Death, ...]:
    """Return the history with one more death, and without those that no longer count."""
    return (*(old for old in deaths if death.at - old.at <= WINDOW), death)


def hangs(worked: Sequence[float]) -> bool:
    """Return whether a process hangs.

    `worked`: the seconds of CPU that its main thread had used at its last answer, and at each missed heartbeat since.
    """
    if len(worked) <= MISSED:
        return False
    return worked[-1] - worked[-2] < WORKS or worked[-1] - worked[0] > BUSY
