"""Bytes out of a pipe: taken, dropped and copied, from buffers and past them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernel.errors import InvalidInput
from services.storage.tar.pipe_source import Stream

DATA = os.urandom(3_000_000)
Feed = Callable[[bytes], Stream]


@pytest.fixture
def feed() -> Iterator[Feed]:
    read, write = os.pipe()
    threads = []

    def start(data: bytes) -> Stream:
        def fill() -> None:
            with open(write, "wb") as file:
                file.write(data)

        threads.append(threading.Thread(target=fill))
        threads[-1].start()
        return Stream(read)

    yield start
    for thread in threads:
        while os.read(read, 1 << 20):
            pass
        thread.join()
    os.close(read)


def test_pieces_of_all_sizes_add_up(feed: Feed, tmp_path: Path) -> None:
    stream = feed(DATA)
    got = bytearray()
    with open(tmp_path / "file", "w+b", buffering=0) as file:
        for size in (1, 511, 512, 300_000, 5, 1_000_000, 262_144, 262_145):
            got += stream.take(size)
            file.truncate(0)
            file.seek(0)
            stream.copy_to(file.fileno(), size)
            file.seek(0)
            got += file.read()
            at = stream.offset
            stream.skip(7)
            got += DATA[at : at + 7]
            if stream.offset > 2_200_000:
                break
    assert stream.offset == len(got)
    assert got == DATA[: len(got)]


def test_running_short(feed: Feed, tmp_path: Path) -> None:
    stream = feed(DATA[:1000])
    assert stream.take(2000) == DATA[:1000]
    with pytest.raises(InvalidInput):
        stream.skip(1)
    with open(tmp_path / "file", "wb") as file:
        for size in (10, 1_000_000):
            with pytest.raises(InvalidInput):
                stream.copy_to(file.fileno(), size)
