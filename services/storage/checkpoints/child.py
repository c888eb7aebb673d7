"""A confined child that works on a checkpoint: started, run to its end, and its answer or its error returned.

Runs in the storage worker. No child outlives the call that started it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import DecodeError

from kernel.errors import CrispError, Internal
from kernel.host import process
from kernel.host.aio import Deadline
from services.storage.checkpoints.parts import MOST_JSON
from services.storage.confined import answer, refusal

_ANSWER_LIMIT = 4 * MOST_JSON
"""Most bytes of an answer: two descriptions in base 64. The rest is dropped."""


def program(module: str, *words: str) -> list[str]:
    """Return the command line that runs one of crisp's modules as a child."""
    return [sys.executable, "-I", "-m", module, *words]


async def run(
    argv: Sequence[str], folder: Path, source: int, deadline: Deadline, pass_fds: Sequence[int] = ()
) -> bytes:
    """Run a child in `folder`, with the descriptor `source` as standard input, and return its answer.

    Raises the error that it answers with; Internal if it fails without an answer.
    """
    pipe = asyncio.subprocess.PIPE
    child = await process.start(argv, stdin=source, stdout=pipe, stderr=pipe, cwd=str(folder), pass_fds=pass_fds)
    assert child.stdout is not None  # pipes, as requested above
    assert child.stderr is not None
    try:
        async with deadline.limit("reading a checkpoint"):
            output, errors = await asyncio.gather(_read(child.stdout), _read(child.stderr))
            code = await child.wait()
    finally:
        await end(child)
    if code == answer.REFUSED:
        raise _refusal(output)
    if code:
        raise Internal(f"{argv[3]}: {refusal.failure(code, errors)}")
    return output


async def end(child: asyncio.subprocess.Process) -> None:
    """Kill a child unless it has ended."""
    if child.returncode is None:
        process.kill_group(child)
        await child.wait()


async def _read(stream: asyncio.StreamReader) -> bytes:
    kept = bytearray()
    while chunk := await stream.read(1 << 20):
        kept += chunk[: _ANSWER_LIMIT - len(kept)]
    return bytes(kept)


def _refusal(output: bytes) -> CrispError:
    try:
        return refusal.decode(output).to_error()
    except DecodeError as error:
        return Internal(f"the child that reads a checkpoint: its answer cannot be decoded: {error}")
