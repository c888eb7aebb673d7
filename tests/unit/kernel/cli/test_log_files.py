"""Log files in the CRI's format: parsing, tails, following over a rotation."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from kernel.cli.log_files import Entry, Printer, Reader, parse, tail

TIME = b"2016-10-06T00:17:09.669794202Z"


def line(text: bytes, stream: bytes = b"stdout", tag: bytes = b"F") -> bytes:
    return b" ".join([TIME, stream, tag, text]) + b"\n"


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        (TIME + b" stdout F hello world", Entry(TIME, b"stdout", False, b"hello world")),
        (TIME + b" stderr P half", Entry(TIME, b"stderr", True, b"half")),
        (TIME + b" stdout F:x y", Entry(TIME, b"stdout", False, b"y")),
        (TIME + b" stdout F ", Entry(TIME, b"stdout", False, b"")),
        (TIME + b" stdout F", Entry(TIME, b"stdout", False, b"")),
        (b"", Entry(b"", b"stdout", False, b"")),
        (b"not of this form", Entry(b"", b"stdout", False, b"not of this form")),
        (b"\xff\xfe stdout F \xff", Entry(b"\xff\xfe", b"stdout", False, b"\xff")),
    ],
)
def test_parse(text: bytes, entry: Entry) -> None:
    assert parse(text) == entry


def shown(entries: list[Entry], *, timestamps: bool = False) -> tuple[bytes, bytes]:
    out, err = io.BytesIO(), io.BytesIO()
    Printer(out, err, timestamps=timestamps).show(entries)
    return out.getvalue(), err.getvalue()


def test_streams_are_split_and_parts_joined(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(line(b"one ", tag=b"P") + line(b"error", b"stderr") + line(b"line") + line(b"two"))
    with Reader(path) as reader:
        entries = reader.read()
    assert shown(entries) == (b"one line\ntwo\n", b"error\n")
    out, err = shown(entries, timestamps=True)
    assert out == TIME + b" one line\n" + TIME + b" two\n"
    assert err == TIME + b" error\n"


def test_tail_counts_whole_lines() -> None:
    entries = [
        Entry(TIME, b"stdout", False, b"1"),
        Entry(TIME, b"stdout", True, b"2a"),
        Entry(TIME, b"stdout", False, b"2b"),
        Entry(TIME, b"stdout", True, b"3"),
    ]
    assert tail(entries, 0) == []
    assert tail(entries, 1) == entries[3:]
    assert tail(entries, 2) == entries[1:]
    assert tail(entries, 9) == entries


def test_reads_on_and_over_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Reader(path) as reader:
        assert reader.read() == []
        path.write_bytes(line(b"one") + line(b"two")[:-4])
        assert [entry.content for entry in reader.read()] == [b"one"]
        with path.open("ab") as log:
            log.write(line(b"two")[-4:])
        path.rename(tmp_path / "log.1")
        path.write_bytes(line(b"three"))
        assert [entry.content for entry in reader.read()] == [b"two", b"three"]
        assert reader.read() == []
