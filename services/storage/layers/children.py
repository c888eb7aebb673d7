"""The processes that a layer goes through when it is unpacked or checked: started, connected by pipes, and ended.

Runs in the storage worker. No child outlives the call that started it, and children between which no byte moves for a
while are killed: a decompressor that hangs, or a tar that keeps its reader busy, does not hold a place for ever.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kernel.errors import DeadlineExceeded
from kernel.host import filters, process
from services.storage.confined import system_calls
from services.storage.layers.hash_pump import Pipes, Progress, Pumped, pump
from services.storage.tar import inflate, untar, verify

_T = TypeVar("_T")
_PYTHON = (sys.executable, "-I", "-m")
_PIPE = asyncio.subprocess.PIPE
_REBUILDS = 2
"""Checks and exports at once, in threads of their own: an unpack never waits for them."""
_CHUNK = 1 << 20
_ANSWER_LIMIT = 64 << 20
"""Most bytes of an answer; it has the paths of many directories. The rest is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A child that ended: its exit status, and its answer."""

    returncode: int
    answer: bytes


class Children:
    """Starts them. Call `close` when no more are needed."""

    def __init__(self, unpacks: int, max_entries: int, stall: float) -> None:
        """Make as many threads as the caller needs at once.

        `unpacks`: layers that are unpacked at once. `stall`: seconds without a byte after which children are killed.
        """
        self._threads = ThreadPoolExecutor(max_workers=unpacks + _REBUILDS, thread_name_prefix="hash")
        self._rebuilds = asyncio.Semaphore(_REBUILDS)
        self._max_entries = max_entries
        self._stall = stall
        self._inflate_filter = filters.allow_only(system_calls.INFLATE).hex()
        self._untar_filter = filters.allow_only(system_calls.UNTAR).hex()
        self._verify_filter = filters.allow_only(system_calls.VERIFY).hex()

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False)

    async def extract(self, blob: int, form: str, diff: Path, skeleton: int, limit: int) -> tuple[Pumped, Ended, Ended]:
        """Turn a blob into files: decompress, hash, make; return when all three have ended.

        `form`: its compression. `diff`: the folder for the files. `skeleton`: a descriptor to write it to. `limit`:
        most bytes of the tar. DeadlineExceeded if nothing moves for too long.
        """
        run = _Run(self._threads, self._stall)
        try:
            source = run.pipes.dup(blob)
            inflater = None
            if form:
                read, write = run.pipes.make()
                argv = [*_PYTHON, inflate.__name__, form, self._inflate_filter]
                inflater = await run.start(argv, diff.parent, stdin=source, stdout=write, stderr=_PIPE)
                run.pipes.close(write, source)
                source = read
            read, write = run.pipes.make()
            argv = [*_PYTHON, untar.__name__, str(self._max_entries), self._untar_filter, str(skeleton)]
            untarrer = await run.start(argv, diff, stdin=read, stdout=_PIPE, stderr=_PIPE, pass_fds=(skeleton,))
            run.pipes.close(read)
            return await run.until_the_end(source, write, limit, inflater, untarrer)
        finally:
            await run.end()

    async def rebuild(self, skeleton: int, diff: Path, limit: int, target: int | None = None) -> tuple[Pumped, Ended]:
        """Turn files into the tar that they came from: return its hash, and the answer of the child that compares.

        `target`: a descriptor to write the tar to, which is closed; nothing keeps the tar if it is None.
        """
        async with self._rebuilds:
            return await self._rebuild(skeleton, diff, limit, target)

    async def _rebuild(self, skeleton: int, diff: Path, limit: int, target: int | None) -> tuple[Pumped, Ended]:
        run = _Run(self._threads, self._stall)
        try:
            if target is None:
                target = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            run.pipes.take(target)
            read, write = run.pipes.make()
            argv = [*_PYTHON, verify.__name__, self._verify_filter]
            verifier = await run.start(argv, diff, stdin=skeleton, stdout=write, stderr=_PIPE)
            run.pipes.close(write)
            pumped, _, verified = await run.until_the_end(read, target, limit, None, verifier)
            return pumped, verified
        finally:
            await run.end()


class _Run:
    """The children that work on one layer."""

    def __init__(self, threads: ThreadPoolExecutor, stall: float) -> None:
        self.pipes = Pipes()
        self._threads = threads
        self._stall = stall
        self._children: list[asyncio.subprocess.Process] = []
        self._pumping: asyncio.Future[Pumped] | None = None

    async def start(
        self, argv: list[str], folder: Path, *, stdin: int, stdout: int, stderr: int, pass_fds: tuple[int, ...] = ()
    ) -> asyncio.subprocess.Process:
        """Start one more child, with `folder` as its working directory."""
        child = await process.start(argv, stdin=stdin, stdout=stdout, stderr=stderr, cwd=str(folder), pass_fds=pass_fds)
        self._children.append(child)
        return child

    async def until_the_end(
        self,
        source: int,
        target: int,
        limit: int,
        first: asyncio.subprocess.Process | None,
        second: asyncio.subprocess.Process,
    ) -> tuple[Pumped, Ended, Ended]:
        """Copy `source` to `target`, hash the bytes, and read the children's answers. Both descriptors are closed."""
        self.pipes.release(source, target)
        progress = Progress()
        self._pumping = asyncio.get_running_loop().run_in_executor(self._threads, pump, source, target, limit, progress)
        work = asyncio.gather(asyncio.shield(self._pumping), _end_of(first), _end_of(second))
        return await _unless_it_stalls(work, progress, self._stall)

    async def end(self) -> None:
        """Kill the children that are left, close the pipes, and wait for both."""
        for child in self._children:
            if child.returncode is None:
                process.kill_group(child)
                await child.wait()
        self.pipes.close_all()
        if self._pumping is not None:  # it ends, as its children have
            await asyncio.wait([self._pumping])


async def _unless_it_stalls(work: Awaitable[_T], progress: Progress, limit: float) -> _T:
    """Return the result; DeadlineExceeded if no byte moves for `limit` seconds."""
    loop = asyncio.get_running_loop()
    timer = asyncio.timeout(limit)

    watches: list[asyncio.TimerHandle] = []

    def check(seen: int) -> None:
        if progress.bytes != seen:
            timer.reschedule(loop.time() + limit)
        watches[:] = [loop.call_later(limit / 4, check, progress.bytes)]

    try:
        async with timer:
            check(0)
            return await work
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"after {progress.bytes} bytes of its tar nothing moved for {limit:g} s",
            hint="storage.stall_timeout sets the limit",
        ) from error
    finally:
        for watch in watches:
            watch.cancel()


async def _end_of(child: asyncio.subprocess.Process | None) -> Ended:
    """Wait for a child's end. Its answer is its standard output, if that is piped and not empty, else standard error.

    None, for a blob that is not compressed, counts as a child that succeeded.
    """
    if child is None:
        return Ended(returncode=0, answer=b"")
    outputs = await asyncio.gather(*(_read(stream) for stream in (child.stdout, child.stderr) if stream is not None))
    returncode = await child.wait()
    return Ended(returncode=returncode, answer=next((text for text in outputs if text), b""))


async def _read(stream: asyncio.StreamReader) -> bytes:
    kept = bytearray()
    while chunk := await stream.read(_CHUNK):
        kept += chunk[: _ANSWER_LIMIT - len(kept)]
    return bytes(kept)
