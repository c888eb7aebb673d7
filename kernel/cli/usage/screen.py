"""The live view of `crisp top`: the whole terminal, redrawn after each reading and each key."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from kernel.cli import terminal
from kernel.cli.output import Row, clean, duration, rich_table, size
from kernel.cli.usage.rows import total
from kernel.cli.usage.view import POD_COLUMNS, PROCESS_COLUMNS, Order, Shown, View


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one reading."""

    processes: Sequence[Row]
    pods: Sequence[Row]
    problem: str = ""
    """The reason why a part is missing."""


def possible() -> bool:
    """Return whether the terminal can move its cursor, and so show a live view."""
    return not Console().is_dumb_terminal


def run(read: Callable[[], Rows], interval: float, keyboard: int) -> None:
    """Show readings, one each `interval` seconds, until `q` is typed at the terminal `keyboard`.

    `read` is called at once; an error that it raises ends the view. The terminal is restored in any case, also if a
    signal ends the view.
    """
    view = View()
    console = Console()
    with (
        _ended_by_signals(),
        terminal.single_keys(keyboard) as keys,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            until = time.monotonic() + interval
            rows = read()
            live.update(draw(rows, view, console.height), refresh=True)
            while (left := until - time.monotonic()) > 0:
                for key in _typed(keys, left):
                    pressed = view.press(key)
                    if pressed is None:
                        return
                    view = pressed
                view = view.within(rows.pods)
                live.update(draw(rows, view, console.height), refresh=True)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the body by SystemExit, with the exit status that a shell gives for them."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def _typed(keys: terminal.Keys, seconds: float) -> list[str]:
    typed = keys.read(seconds)
    return ["q"] if typed is None else typed


def draw(rows: Rows, view: View, height: int) -> RenderableType:
    """Return the screen: a summary, the tables that are shown, as much of the pods as fits, and the keys. Pure."""
    parts: list[RenderableType] = [_summary(rows)]
    left = height - 1 - len(_footer(view))
    if rows.problem:
        parts.append(Text(clean(rows.problem), style="red", no_wrap=True, overflow="ellipsis"))
        left -= 1
    if view.shown is not Shown.PODS:
        processes = view.processes(rows.processes)[: max(left - 2, 0)]
        parts += [Text(""), rich_table(PROCESS_COLUMNS, processes)]
        left -= 2 + len(processes)
    if view.shown is not Shown.PROCESSES and left > 2:
        lines = view.pods(rows.pods)[view.offset :][: left - 2]
        parts += [Text(""), rich_table(POD_COLUMNS, lines)]
        left -= 2 + len(lines)
    parts += [Text("")] * max(left, 0)
    return Group(*parts, *_footer(view))


def _summary(rows: Rows) -> Text:
    containers = sum(len(pod["containers"]) for pod in rows.pods if isinstance(pod["containers"], list))
    up = max((row["uptime"] for row in rows.processes if isinstance(row["uptime"], float)), default=0.0)
    text = (
        f"crisp: {len(rows.processes)} processes, CPU {total(rows.processes, 'cpu'):.1f} %,"
        f" memory {size(total(rows.processes, 'memory'))}, up {duration(up)};"
        f" {len(rows.pods)} pods, {containers} containers, CPU {total(rows.pods, 'cpu'):.1f} %,"
        f" memory {size(total(rows.pods, 'memory'))}"
    )
    return Text(text, style="bold", no_wrap=True, overflow="ellipsis")


def _footer(view: View) -> list[Text]:
    """Return the lines that name the keys; the chosen order is highlighted."""
    orders = Text(no_wrap=True, overflow="ellipsis")
    for order in Order:
        orders.append(f"{order.key} {order.label}", style="reverse" if order is view.order else "")
        orders.append(" ")
    others = Text(
        f"←→ other order   i {'ascending' if view.ascending else 'descending'}   s shown: {view.shown.value}"
        "   ↑↓ scroll pods   q quit",
        no_wrap=True, overflow="ellipsis",
    )  # fmt: skip
    return [orders, others]
