"""CPU time per second, from two readings of a counter. Pure.

Moments are nanoseconds since 1970, as they are in readings and in the CRI.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel.contracts.stats import CgroupUsage

_RATE_NS = 500_000_000
"""The shortest time, in nanoseconds, over which a rate is computed: over a shorter one it is noise."""


@dataclass(frozen=True, slots=True)
class Rate:
    """The rate between two readings, and the reading from which the next one is counted."""

    at: int
    """When that reading was taken."""
    cpu: int
    """CPU time used until then, in nanoseconds."""
    nano_cores: int | None
    """CPU nanoseconds per second; None if it is not known."""

    def next(self, usage: CgroupUsage) -> Rate:
        """Return the rate after a later reading.

        A reading that follows too soon changes nothing; one whose counter is lower starts over without a rate.
        """
        if usage.cpu is None:
            return self
        passed = usage.at - self.at
        if usage.cpu < self.cpu or passed <= 0:
            return Rate(usage.at, usage.cpu, None)
        if passed < _RATE_NS:
            return self
        return Rate(usage.at, usage.cpu, (usage.cpu - self.cpu) * 1_000_000_000 // passed)


def first_rate(usage: CgroupUsage, since: int) -> Rate | None:
    """Return the mean rate since `since`, all that one reading can give; 0 if `since` is 0, None without CPU time."""
    if usage.cpu is None:
        return None
    passed = usage.at - since
    mean = usage.cpu * 1_000_000_000 // passed if since and passed > 0 else 0
    return Rate(usage.at, usage.cpu, mean)
