"""The form in which usage is shown: columns, the order of rows, and the effect of each key. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

from kernel.cli.output import Column, Row, duration, short_id, size, state_style


class Order(enum.Enum):
    """An order of rows: the key that selects it, its label, and the row's field."""

    CPU = ("c", "CPU", "cpu")
    MEMORY = ("m", "memory", "memory")
    THREADS = ("t", "threads", "threads")
    FILES = ("f", "files", "open_files")
    RESTARTS = ("r", "restarts", "restarts")
    UPTIME = ("u", "up", "uptime")
    LAYER = ("l", "layer", "writable_layer")
    PROCESSES = ("p", "procs", "processes")
    NETWORK = ("n", "net", "traffic")
    NAME = ("a", "name", "name")

    def __init__(self, key: str, label: str, field: str) -> None:
        self.key = key
        self.label = label
        self.field = field


class Shown(enum.Enum):
    """The tables that can be shown."""

    ALL = "all"
    PROCESSES = "crisp"
    PODS = "pods"


def _percent(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, int | float) else ""


def _size(value: object) -> str:
    return size(value) if isinstance(value, int) else ""


def _per_second(value: object) -> str:
    return f"{size(value)}/s" if isinstance(value, int) else ""


def _pid(value: object) -> str:
    return str(value or "")


PROCESS_COLUMNS = (
    Column("NAME", "name"),
    Column("STATE", "state", style=state_style),
    Column("PID", "pid", _pid, right=True),
    Column("CPU%", "cpu", _percent, right=True),
    Column("MEMORY", "memory", size, right=True),
    Column("THREADS", "threads", right=True),
    Column("FILES", "open_files", right=True),
    Column("RESTARTS", "restarts", right=True),
    Column("UPTIME", "uptime", duration, right=True),
)
POD_COLUMNS = (
    Column("ID", "id", short_id),
    Column("POD", "pod"),
    Column("CONTAINER", "container"),
    Column("CPU%", "cpu", _percent, right=True),
    Column("MEMORY", "memory", _size, right=True),
    Column("LAYER", "writable_layer", _size, right=True),
    Column("PROCS", "processes", right=True),
    Column("RECEIVED", "receive_rate", _per_second, right=True),
    Column("SENT", "send_rate", _per_second, right=True),
)

_PROCESS_ORDERS = {Order.CPU, Order.MEMORY, Order.THREADS, Order.FILES, Order.RESTARTS, Order.UPTIME, Order.NAME}
_POD_ORDERS = {Order.CPU, Order.MEMORY, Order.LAYER, Order.PROCESSES, Order.NETWORK, Order.NAME}
_BY_KEY = {order.key: order for order in Order}


@dataclass(frozen=True, slots=True)
class View:
    """The user's choices."""

    order: Order = Order.CPU
    inverted: bool = False
    """Whether the smallest value, or the last name, comes first."""
    shown: Shown = Shown.ALL
    offset: int = 0
    """How many lines of the table of pods are scrolled away."""

    @property
    def ascending(self) -> bool:
        """Whether small values, or names from A on, come first."""
        return self.inverted != (self.order is Order.NAME)

    def press(self, key: str) -> View | None:
        """Return the view after a key; None if the key ends it. An unknown key changes nothing."""
        match key:
            case "q":
                return None
            case "left" | "right":
                orders = list(Order)
                step = 1 if key == "right" else -1
                return replace(self, order=orders[(orders.index(self.order) + step) % len(orders)], inverted=False)
            case "up" | "down":
                return replace(self, offset=max(self.offset + (1 if key == "down" else -1), 0))
            case "i":
                return replace(self, inverted=not self.inverted)
            case "s":
                shown = list(Shown)
                return replace(self, shown=shown[(shown.index(self.shown) + 1) % len(shown)], offset=0)
            case _ if order := _BY_KEY.get(key):
                return replace(self, order=order, inverted=order is self.order and not self.inverted)
            case _:
                return self

    def within(self, pods: Sequence[Row]) -> View:
        """Return the view with its offset inside the table of these pods."""
        last = max(len(self.pods(pods)) - 1, 0)
        return replace(self, offset=min(self.offset, last))

    def processes(self, rows: Sequence[Row]) -> list[Row]:
        """Return processes in the chosen order; in the supervisor's order if that does not apply to processes."""
        return self._ordered(rows) if self.order in _PROCESS_ORDERS else list(rows)

    def pods(self, rows: Sequence[Row]) -> list[Row]:
        """Return the lines of the table: each pod, followed by its containers.

        Pods and the containers of each are in the chosen order; by CPU if that order does not apply to pods.
        """
        view = self if self.order in _POD_ORDERS else View()
        return list(view._lines(rows))

    def _lines(self, rows: Sequence[Row]) -> Iterator[Row]:
        for pod in self._ordered(rows):
            yield {**pod, "pod": pod["name"]}
            for container in self._ordered(cast("Sequence[Row]", pod["containers"])):
                yield {**container, "pod": pod["name"], "container": container["name"]}

    def _ordered(self, rows: Sequence[Row]) -> list[Row]:
        """Return rows in order; rows that lack the value come last. Equal rows are ordered by name."""
        by_name = sorted(rows, key=lambda row: str(row["name"]))
        if self.order is Order.NAME:
            return by_name[::-1] if self.inverted else by_name
        known = [row for row in by_name if self._value(row) is not None]
        known.sort(key=lambda row: self._value(row) or 0, reverse=not self.inverted)
        return known + [row for row in by_name if self._value(row) is None]

    def _value(self, row: Row) -> float | None:
        if self.order is Order.NETWORK:
            rates = [row.get("receive_rate"), row.get("send_rate")]
            known = [value for value in rates if isinstance(value, int | float)]
            return sum(known) if known else None
        value = row.get(self.order.field)
        return value if isinstance(value, int | float) else None
