"""The processes that a layer goes through, when it is unpacked and when it is checked: started, joined, and ended.

Run by the storage worker. No child outlives the call that started it, and one that gives no byte for a while is
ended: a decompressor that hangs, or a tar that keeps its reader busy, does not hold a layer's place for ever.
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
from kernel.host import process
from services.storage.confined import system_calls
from services.storage.layers.hash_pump import Pipes, Progress, Pumped, pump
from services.storage.tar import inflate, untar, verify

_T = TypeVar("_T")
_PYTHON = (sys.executable, "-I", "-m")
_PIPE = asyncio.subprocess.PIPE
_REBUILDS = 2
"""As many checks at once: an unpack never waits for them."""
_CHUNK = 1 << 20
_ANSWER_LIMIT = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A child that ended: its exit status and what it said."""

    returncode: int
    answer: bytes


class Children:
    """Starts them; `close` when no more are wanted."""

    def __init__(self, unpacks: int, max_entries: int, stall: float) -> None:
        """`unpacks`: how many the caller wants at once."""
        self._threads = ThreadPoolExecutor(max_workers=unpacks + _REBUILDS, thread_name_prefix="hash")
        self._rebuilds = asyncio.Semaphore(_REBUILDS)
        self._max_entries = max_entries
        self._stall = stall
        self._inflate_filter = system_calls.compile_filter(system_calls.INFLATE).hex()
        self._untar_filter = system_calls.compile_filter(system_calls.UNTAR).hex()
        self._verify_filter = system_calls.compile_filter(system_calls.VERIFY).hex()

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False)

    async def extract(self, blob: int, form: str, diff: Path, skeleton: int, limit: int) -> tuple[Pumped, Ended, Ended]:
        """Blob to files: decompress, hash, make; to the end of all three. `limit`: most bytes of the tar."""
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
        """Files to the tar that they came from: its hash, and what the child found. `target`, a file, gets the tar,
        and is closed."""
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
    """The children of one layer."""

    def __init__(self, threads: ThreadPoolExecutor, stall: float) -> None:
        self.pipes = Pipes()
        self._threads = threads
        self._stall = stall
        self._children: list[asyncio.subprocess.Process] = []
        self._pumping: asyncio.Future[Pumped] | None = None

    async def start(
        self, argv: list[str], folder: Path, *, stdin: int, stdout: int, stderr: int, pass_fds: tuple[int, ...] = ()
    ) -> asyncio.subprocess.Process:
        """Start one more; it has `folder` as working directory."""
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
        """Hash what comes from `source` on its way to `target`, and listen to the children. Both are closed."""
        self.pipes.release(source, target)
        progress = Progress()
        self._pumping = asyncio.get_running_loop().run_in_executor(self._threads, pump, source, target, limit, progress)
        work = asyncio.gather(asyncio.shield(self._pumping), _listen(first), _listen(second))
        return await _unless_it_stalls(work, progress, self._stall)

    async def end(self) -> None:
        """Leave nothing behind, however far it came."""
        for child in self._children:
            if child.returncode is None:
                process.kill_group(child)
                await child.wait()
        self.pipes.close_all()
        if self._pumping is not None:  # with its children gone it ends
            await asyncio.wait([self._pumping])


async def _unless_it_stalls(work: Awaitable[_T], progress: Progress, limit: float) -> _T:
    """The result, unless no byte moves for `limit` seconds."""
    loop = asyncio.get_running_loop()
    timer = asyncio.timeout(limit)

    watches: list[asyncio.TimerHandle] = []

    def look(seen: int) -> None:
        if progress.bytes != seen:
            timer.reschedule(loop.time() + limit)
        watches[:] = [loop.call_later(limit / 4, look, progress.bytes)]

    try:
        async with timer:
            look(0)
            return await work
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"after {progress.bytes} bytes of its tar nothing moved for {limit:g} s",
            hint="storage.stall_timeout sets the limit",
        ) from error
    finally:
        for watch in watches:
            watch.cancel()


async def _listen(child: asyncio.subprocess.Process | None) -> Ended:
    """A child's answer and its end: what it said on standard output where that is piped, else on standard error.

    A blob that is not compressed has no child for that, which is a child that succeeds.
    """
    if child is None:
        return Ended(returncode=0, answer=b"")
    said = await asyncio.gather(*(_read(stream) for stream in (child.stdout, child.stderr) if stream is not None))
    returncode = await child.wait()
    return Ended(returncode=returncode, answer=next((text for text in said if text), b""))


async def _read(stream: asyncio.StreamReader) -> bytes:
    kept = bytearray()
    while chunk := await stream.read(_CHUNK):
        kept += chunk[: _ANSWER_LIMIT - len(kept)]
    return bytes(kept)
