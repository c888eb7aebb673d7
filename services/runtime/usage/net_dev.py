"""Parses /proc/net/dev (proc(5)): the counters of a network namespace's interfaces. Pure."""

from __future__ import annotations

from kernel.contracts.stats import InterfaceUsage

_COLUMNS = 16


def parse(text: str) -> tuple[InterfaceUsage, ...]:
    """Return every interface but `lo`, in the kernel's order."""
    found = []
    for line in text.splitlines():
        name, colon, counters = line.rpartition(":")
        columns = counters.split()
        if not colon or name.strip() == "lo" or len(columns) < _COLUMNS:
            continue  # the two lines of the heading
        rx, tx = [int(column) for column in columns[:4]], [int(column) for column in columns[8:12]]
        found.append(
            InterfaceUsage(
                name=name.strip(), rx_bytes=rx[0], rx_packets=rx[1], rx_errors=rx[2], rx_dropped=rx[3],
                tx_bytes=tx[0], tx_packets=tx[1], tx_errors=tx[2], tx_dropped=tx[3],
            )
        )  # fmt: skip
    return tuple(found)
