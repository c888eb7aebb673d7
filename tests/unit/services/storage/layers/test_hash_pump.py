"""The hash between the children."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading

from kernel.ids import Digest
from services.storage.layers.hash_pump import Pipes, Pumped, pump


def run_pump(data: bytes, limit: int, *, reader: bool = True) -> tuple[Pumped, bytes]:
    read_in, write_in = os.pipe()
    read_out, write_out = os.pipe()

    def feed() -> None:
        with open(write_in, "wb", buffering=0) as file, contextlib.suppress(BrokenPipeError):
            file.write(data)

    feeder = threading.Thread(target=feed)
    feeder.start()
    got = bytearray()

    def drain() -> None:
        with open(read_out, "rb") as file:
            got.extend(file.read())

    drainer = threading.Thread(target=drain)
    if reader:
        drainer.start()
    else:
        os.close(read_out)
    result = pump(read_in, write_out, limit)
    feeder.join()
    if reader:
        drainer.join()
    return result, bytes(got)


def test_the_hash_is_of_the_bytes_that_are_handed_on() -> None:
    data = os.urandom(300_000)
    result, got = run_pump(data, 1 << 20)
    assert got == data
    assert result == Pumped(digest=Digest(f"sha256:{hashlib.sha256(data).hexdigest()}"), bytes=300_000, over=False)


def test_hashing_goes_on_without_a_reader() -> None:
    data = os.urandom(200_000)
    result, _ = run_pump(data, 1 << 20, reader=False)
    assert result.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_more_than_allowed_is_not_read() -> None:
    assert run_pump(bytes(5 << 20), 1 << 20)[0].over


def test_what_was_not_released_is_closed() -> None:
    before = len(os.listdir("/proc/self/fd"))
    pipes = Pipes()
    read, write = pipes.make()
    pipes.make()
    pipes.close(read)
    pipes.release(write)
    pipes.close_all()
    os.close(write)
    assert len(os.listdir("/proc/self/fd")) == before
