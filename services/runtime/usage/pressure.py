"""Parses files of pressure stall information such as cpu.pressure (Documentation/accounting/psi.rst). Pure."""

from __future__ import annotations

import re

from kernel.contracts.stats import Pressure, Stall

_LINE = re.compile(
    r"^(some|full) avg10=(\d+\.\d+) avg60=(\d+\.\d+) avg300=(\d+\.\d+) total=(\d+)$", re.ASCII | re.MULTILINE
)
_NONE = Stall(total=0, avg10=0.0, avg60=0.0, avg300=0.0)


def parse(text: str | None) -> Pressure | None:
    """Return the values in a pressure file; None if there is none.

    Older kernels have no line `full` in cpu.pressure: its values are 0 then.
    """
    lines = {
        kind: Stall(total=int(total) * 1000, avg10=float(avg10), avg60=float(avg60), avg300=float(avg300))
        for kind, avg10, avg60, avg300, total in _LINE.findall(text or "")
    }
    return Pressure(some=lines["some"], full=lines.get("full", _NONE)) if "some" in lines else None
