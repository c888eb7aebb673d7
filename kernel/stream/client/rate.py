"""A limit on how often something may happen: a burst at once, and a number a second afterwards. Pure."""

from __future__ import annotations

PINGS = (200.0, 20.0)
"""Pings that a client may send: the burst, and the number per second. Each is answered."""


class Rate:
    """A token bucket, full at first."""

    __slots__ = ("_a_second", "_at", "_burst", "_left")

    def __init__(self, burst: float, a_second: float) -> None:
        self._burst = burst
        self._a_second = a_second
        self._left = burst
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Take one token at the time `now` (seconds of a clock that only runs forward). Returns False if none is
        left."""
        self._left = min(self._burst, self._left + (now - self._at) * self._a_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
