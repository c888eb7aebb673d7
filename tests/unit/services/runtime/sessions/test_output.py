from __future__ import annotations

import asyncio
import os

import pytest

from services.runtime.sessions import output
from services.runtime.sessions.output import Output


async def test_what_comes_is_kept_up_to_the_limit_and_the_rest_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "LIMIT", 5)
    out = Output()
    os.write(out.write, b"abc")
    os.write(out.write, b"defgh")
    out.close_write()
    async with asyncio.timeout(5):
        await out.over.wait()
    assert bytes(out.kept) == b"abcde"
    out.close()
    out.close()


async def test_what_has_come_is_taken_though_somebody_could_still_write() -> None:
    read, write = os.pipe()
    out = Output(read)
    os.write(write, b"abc")
    out.close()
    assert (bytes(out.kept), out.over.is_set()) == (b"abc", False)
    with pytest.raises(BrokenPipeError):
        os.write(write, b"x")
    os.close(write)
