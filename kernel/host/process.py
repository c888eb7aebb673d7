"""The one place that starts an external program: argument list, clean environment, deadline, bounded output.

A program that fails leaves an error with a line that can be pasted into a shell.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess  # noqa: TID251  # the only place that may start programs
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from kernel.errors import DeadlineExceeded, Internal
from kernel.host.aio import Deadline

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
"""The environment of every program whose caller gives none; nothing of this process's own is inherited."""
_OUTPUT_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A program that has ended. A negative return code is the number of the signal that ended it."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    def check(self) -> Completed:
        """Return self on exit status 0; otherwise raise Internal with the program's output."""
        if self.returncode:
            output = (self.stderr or self.stdout).decode(errors="replace").strip()[-2000:]
            raise Internal(f"{shlex.join(self.argv)}: {describe(self.returncode)}: {output or 'no output'}")
        return self


def describe(returncode: int) -> str:
    """Return a return code in words."""
    if returncode < 0:
        return f"ended by {signal.Signals(-returncode).name}"
    return f"exit status {returncode}"


async def start(
    argv: Sequence[str],
    *,
    stdin: int = asyncio.subprocess.DEVNULL,
    stdout: int = asyncio.subprocess.DEVNULL,
    stderr: int = asyncio.subprocess.DEVNULL,
    env: Mapping[str, str] = ENVIRONMENT,
    cwd: str | None = None,
    pass_fds: Sequence[int] = (),
) -> asyncio.subprocess.Process:
    """Start a program in a process group of its own; raise Internal if it cannot be started.

    It gets no session of its own, because the kernel would give it a scheduling group too (autogroup, sched(7)), which
    costs a short program 10 to 20 ms on a busy machine. A daemon has no terminal from which a program must be
    separated.
    """
    try:
        return await asyncio.create_subprocess_exec(
            *argv, stdin=stdin, stdout=stdout, stderr=stderr, env=dict(env), cwd=cwd, pass_fds=pass_fds,
            process_group=0,
        )  # fmt: skip
    except OSError as error:
        raise Internal(f"{shlex.join(argv)}: cannot be started: {error.strerror}") from error


_REAP_SECONDS = 0.02
_MOST_UNREAPED = 64
_unreaped: deque[int] = deque()
"""Programs that have ended and are not reaped yet: a later launch reaps them if their loop has closed."""


class Child:
    """A program that was launched. Its return code is known as soon as it ends, whether it is waited for or not.

    It is reaped a moment later: while the kernel removes its last thread, a process that reaps it spins in the kernel
    until that is done, several milliseconds for a program of many threads, such as one written in Go.
    """

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.pid = popen.pid
        self.returncode: int | None = None
        self._popen = popen
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._fd = os.pidfd_open(popen.pid)
        self._loop.add_reader(self._fd, self._on_end)

    async def wait(self) -> int:
        """Wait for its end and return its return code."""
        await self._ended.wait()
        assert self.returncode is not None  # set before
        return self.returncode

    def _on_end(self) -> None:
        self._loop.remove_reader(self._fd)
        found = os.waitid(os.P_PIDFD, self._fd, os.WEXITED | os.WNOWAIT)
        os.close(self._fd)
        assert found is not None  # without WNOHANG there is always one
        self.returncode = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        self._popen.returncode = self.returncode
        self._ended.set()
        _unreaped.append(self.pid)
        self._loop.call_later(_REAP_SECONDS, _reap, self.pid)


def _reap(pid: int) -> None:
    with suppress(ValueError):  # done by then
        _unreaped.remove(pid)
        os.waitpid(pid, 0)


def launch(
    argv: Sequence[str],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
    env: Mapping[str, str] = ENVIRONMENT,
    cwd: str | None = None,
    pass_fds: Sequence[int] = (),
) -> Child:
    """Start a program whose streams are open descriptors or nothing; otherwise as `start`.

    asyncio's own way takes as much time again as the start itself, and several turns of the loop at the end.
    """
    while len(_unreaped) > _MOST_UNREAPED:  # left by a loop that has closed
        _reap(_unreaped[0])
    try:
        return Child(
            subprocess.Popen(
                argv, stdin=stdin, stdout=stdout, stderr=stderr, env=dict(env), cwd=cwd, pass_fds=pass_fds,
                process_group=0,
            )
        )  # fmt: skip
    except OSError as error:
        raise Internal(f"{shlex.join(argv)}: cannot be started: {error.strerror}") from error


class Started(Protocol):
    """A program that was started by `start` or by `launch`."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...


def kill_group(process: Started) -> None:
    """Send SIGKILL to the program and to all other processes in its group."""
    with suppress(ProcessLookupError):  # gone by itself
        os.killpg(process.pid, signal.SIGKILL)


@asynccontextmanager
async def ended_with_body(process: Started) -> AsyncIterator[None]:
    """Run the body; a program that has not ended by then is killed with its group, and reaped."""
    try:
        yield
    finally:
        if process.returncode is None:
            kill_group(process)
            await process.wait()


async def run(
    argv: Sequence[str],
    *,
    deadline: Deadline,
    input: bytes = b"",
    env: Mapping[str, str] = ENVIRONMENT,
    cwd: str | None = None,
    pass_fds: Sequence[int] = (),
    limit: int = _OUTPUT_LIMIT,
) -> Completed:
    """Run a program to its end.

    Output beyond `limit` bytes of a stream is read and dropped. At the deadline its process group is killed, and
    DeadlineExceeded has the line that can be pasted into a shell; the group is killed too if the caller is cancelled.
    """
    process = await start(
        argv,
        stdin=asyncio.subprocess.PIPE if input else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
        cwd=cwd,
        pass_fds=pass_fds,
    )
    assert process.stdout is not None  # both streams are pipes, as given above
    assert process.stderr is not None
    try:
        async with asyncio.timeout(max(deadline.remaining(), 0)):
            out, err, _, code = await asyncio.gather(
                _read(process.stdout, limit),
                _read(process.stderr, limit),
                _feed(process, input),
                process.wait(),
            )
    except TimeoutError as error:
        raise DeadlineExceeded(f"{shlex.join(argv)}: did not end before the deadline") from error
    finally:
        if process.returncode is None:
            kill_group(process)
            await process.wait()
    return Completed(argv=tuple(argv), returncode=code, stdout=out, stderr=err)


async def _read(stream: asyncio.StreamReader, limit: int) -> bytes:
    kept = bytearray()
    while chunk := await stream.read(65536):
        kept += chunk[: limit - len(kept)]
    return bytes(kept)


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    if process.stdin is None:
        return
    with suppress(BrokenPipeError, ConnectionResetError):  # it ended without reading: its status has the reason
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()
