"""A child's answer, its refusal, and what is made of one that fails."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kernel.errors import DeadlineExceeded, Internal, NotFound
from kernel.host.aio import Deadline
from services.storage.checkpoints import child


async def run(script: str, folder: Path, seconds: float = 20) -> bytes:
    source = os.open(os.devnull, os.O_RDONLY)
    try:
        return await child.run([sys.executable, "-I", "-c", script], folder, source, Deadline.after(seconds))
    finally:
        os.close(source)


async def test_an_answer(tmp_path: Path) -> None:
    assert await run("import os; print(os.getcwd(), end='')", tmp_path) == str(tmp_path).encode()


async def test_a_refusal_is_raised(tmp_path: Path) -> None:
    script = """print('{"error": "NotFound", "message": "m", "hint": ""}'); exit(3)"""
    with pytest.raises(NotFound, match=r"^m$"):
        await run(script, tmp_path)
    with pytest.raises(Internal, match="cannot be decoded"):
        await run("exit(3)", tmp_path)


async def test_a_child_that_fails_or_hangs(tmp_path: Path) -> None:
    with pytest.raises(Internal, match=r"exit status 1: (?s:.*)ZeroDivisionError"):
        await run("1 / 0", tmp_path)
    with pytest.raises(DeadlineExceeded):
        await run("import signal; signal.pause()", tmp_path, 0.3)
