"""A tar without its contents, and with them once more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.errors import Corrupt
from services.storage.tar.skeleton import Rebuilt, Writer


def written(path: Path, parts: list[bytes], limit: int = 1 << 20) -> Writer:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        writer = Writer(fd, limit)
        for part in parts:
            writer.keep(part)
        writer.end()
    finally:
        os.close(fd)
    return writer


def rebuilt(path: Path, output: Path) -> Rebuilt:
    return Rebuilt(os.open(path, os.O_RDONLY), os.open(output, os.O_WRONLY | os.O_CREAT))


def test_what_was_kept_and_what_files_have_give_the_whole(tmp_path: Path) -> None:
    head, body, tail = os.urandom(1000), os.urandom(2_500_000), os.urandom(700_000)
    assert written(tmp_path / "s", [head, memoryview(tail)], 1 << 22).whole  # type: ignore[list-item]
    (tmp_path / "body").write_bytes(body)
    source = rebuilt(tmp_path / "s", tmp_path / "out")
    assert source.take(600) == head[:600]
    source.skip(400)
    source.copy_from(os.open(tmp_path / "body", os.O_RDONLY), len(body))
    assert source.offset == 1000 + len(body)
    assert source.take(5) == tail[:5]
    source.drain()
    assert source.take(1) == b""
    assert (tmp_path / "out").read_bytes() == head + body + tail


def test_running_short(tmp_path: Path) -> None:
    written(tmp_path / "s", [b"x" * 100])
    (tmp_path / "body").write_bytes(b"12")
    source = rebuilt(tmp_path / "s", tmp_path / "out")
    with pytest.raises(Corrupt, match="shorter"):
        source.copy_from(os.open(tmp_path / "body", os.O_RDONLY), 3)
    with pytest.raises(Corrupt, match="cut off"):
        source.skip(101)


def test_one_that_is_too_large_is_given_up(tmp_path: Path) -> None:
    assert not written(tmp_path / "s", [os.urandom(1 << 20)], 1000).whole
    assert (tmp_path / "s").stat().st_size <= 1000
