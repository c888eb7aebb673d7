"""Tables, plain columns, JSON, and figures for people."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from kernel.cli.output import Column, Output, clean, duration, plain, rich_table, short_id, size, state_style

COLUMNS = (Column("NAME", "name"), Column("SIZE", "size", size, right=True))
ROWS = [{"name": "a", "size": 1500, "more": [1]}, {"name": "longer", "size": 0}]


def test_plain_columns_are_aligned() -> None:
    assert plain(COLUMNS, ROWS) == "NAME      SIZE\na       1.5 kB\nlonger     0 B\n"
    assert plain(COLUMNS, []) == "NAME  SIZE\n"
    assert plain(COLUMNS, [{"size": 1}]) == "NAME  SIZE\n-      1 B\n"


def test_json_is_a_list_of_whole_objects(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=True, terminal=True).table(COLUMNS, ROWS)
    assert json.loads(capsys.readouterr().out) == ROWS
    Output(json=True, terminal=False).table(COLUMNS, [])
    assert json.loads(capsys.readouterr().out) == []


def test_a_terminal_gets_the_same_words(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=False, terminal=True).table(COLUMNS, [{"name": "[bold]a", "size": 1}])
    assert "[bold]a" in capsys.readouterr().out


@pytest.mark.parametrize("terminal", [True, False])
def test_control_characters_never_reach_a_terminal(capsys: pytest.CaptureFixture[str], terminal: bool) -> None:
    Output(json=False, terminal=terminal).table(COLUMNS, [{"name": "a\x1b[2Jb\nc", "size": 1}])
    out = capsys.readouterr().out
    assert "\x1b[2J" not in out
    assert "a?[2Jb?c" in out
    assert clean("plain ümläut") == "plain ümläut"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (3043328, "3.0 MB"), (5 * 10**12, "5.0 TB"), (None, "0 B")],
)
def test_size(value: object, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(-1, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (86400 * 3, "3d"), (4.7, "4s")]
)
def test_duration(value: object, text: str) -> None:
    assert duration(value) == text


def test_short_id_and_style() -> None:
    assert short_id("sha256:" + "a" * 64) == "a" * 13
    assert (state_style("running"), state_style("exited"), state_style("starting")) == ("green", "red", "yellow")


def shown(width: int) -> list[str]:
    columns = (Column("NAME", "name"), Column("CAPABILITIES", "capabilities"), Column("AGE", "age", right=True))
    row = {"name": "storage", "capabilities": "chown,dac_override,fowner,fsetid", "age": "11s"}
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(rich_table(columns, [row], width))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_table_that_is_too_wide_folds_its_widest_column() -> None:
    assert shown(80)[1] == "storage  chown,dac_override,fowner,fsetid  11s"
    assert shown(32)[1:] == ["storage  chown,dac_override  11s", "         ,fowner,fsetid"]
    assert all("storage" not in line or "11s" in line for line in shown(27))


def test_a_terminal_that_is_too_narrow_for_that_cuts_every_column() -> None:
    header, row = shown(14)
    assert len(header) <= 14
    assert len(row) <= 14
