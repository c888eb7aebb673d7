"""Output for people and programs: tables on a terminal, plain columns in a pipe, JSON with `--json`.

Names and messages come from images, pods and registries: a control character in one never reaches a terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernel.ids import short

if TYPE_CHECKING:
    from rich.table import Table

Row = Mapping[str, object]
_FOLDED = 12
"""The least width of a column that folds, in characters."""
_GAP = 2
"""Spaces between two columns."""


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _no_style(_: object) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its title, the key of a row's value, and the function that formats the value for people."""

    title: str
    key: str
    show: Callable[[object], str] = _text
    right: bool = False
    style: Callable[[object], str] = _no_style
    """Returns a colour for the value, used on a terminal."""


@dataclass(frozen=True, slots=True)
class Output:
    """The destination of answers. Progress and remarks go to stderr, so that a pipe holds the answer alone."""

    json: bool
    terminal: bool

    def table(self, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        """Write rows as a list of objects, a table, or plain columns."""
        if self.json:
            self.document(list(rows))
        elif self.terminal:
            from rich.console import Console

            console = Console()
            console.print(rich_table(columns, rows, console.width))
        else:
            sys.stdout.write(plain(columns, rows))

    def document(self, value: object) -> None:
        """Write a value as JSON."""
        sys.stdout.write(json.dumps(value, indent=2) + "\n")

    def line(self, text: str) -> None:
        """Write one line of the answer."""
        sys.stdout.write(clean(text) + "\n")

    def note(self, text: str) -> None:
        """Write a remark, which is not part of the answer."""
        sys.stderr.write(clean(text) + "\n")


def clean(text: str) -> str:
    """Return a text without control characters, which could control the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def plain(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Return aligned columns without colours or borders, for awk and people."""
    cells = [[column.title for column in columns]]
    cells += [[clean(column.show(row.get(column.key))) or "-" for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    lines = (
        "  ".join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in cells
    )
    return "".join(f"{line}\n" for line in lines)


def rich_table(columns: Sequence[Column], rows: Sequence[Row], width: int = 0) -> Table:
    """Return rows as a table for a terminal of `width` columns.

    If it is too wide, the widest column folds, as long as that is enough. With a width of 0 no column folds: each row
    takes one line, and what does not fit is cut off.
    """
    from rich.table import Table
    from rich.text import Text

    cells = [[clean(column.show(row.get(column.key))) or "-" for column in columns] for row in rows]
    titles = [column.title for column in columns]
    widths = [max(len(line[index]) for line in (titles, *cells)) for index in range(len(columns))]
    widest = widths.index(max(widths))
    folds = sum(widths) - widths[widest] + _FOLDED + _GAP * (len(columns) - 1) <= width
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0))
    for index, column in enumerate(columns):
        folded = folds and index == widest
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not folded,
            overflow="fold" if folded else "ellipsis",
            min_width=widths[index] if folds and not folded else None,
        )
    for row, line in zip(rows, cells, strict=True):
        styles = (column.style(row.get(column.key)) for column in columns)
        table.add_row(*(Text(cell, style=style) for cell, style in zip(line, styles, strict=True)))
    return table


def short_id(value: object) -> str:
    """Return the beginning of an id, as long as other container tools show it."""
    return short(_text(value).removeprefix("sha256:"))


def size(value: object) -> str:
    """Format bytes for people, in powers of ten."""
    number = float(value) if isinstance(value, int | float) else 0.0
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def duration(value: object) -> str:
    """Format seconds for people, in the largest unit that fits."""
    seconds = int(value) if isinstance(value, int | float) else 0
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{max(seconds, 0)}s"


def state_style(value: object) -> str:
    """Return the colour of a state."""
    text = _text(value)
    if text in {"ready", "running", "ok"}:
        return "green"
    if text in {"exited", "notready", "unknown", "held down"}:
        return "red"
    return "yellow"
