"""ExecSync: a command in a running container, straight through the OCI runtime, with bounded output.

Run by the runtime worker. If the kernel reports no ends of processes, the command runs as the reaper's child instead,
as those of sessions do: nobody else could say how it ended while a child of it holds the output open. Rules kept: the
answer waits for the command, never for a child of it that holds the output open; at the time limit the command and
everything that came of it is killed, and nothing else.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from kernel.contracts.runtime import ExecRequest, Executed
from kernel.errors import DeadlineExceeded, FailedPrecondition, Internal, InvalidInput, ResourceExhausted
from kernel.host import pidfd, process
from kernel.host.aio import Deadline, Tasks
from services.runtime.cgroups.hierarchies import Cgroups
from services.runtime.exits.proc_connector import ProcConnector
from services.runtime.exits.watching import Container
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.reaper import descendants
from services.runtime.spec import exec_spec

OUTPUT_LIMIT = 16 << 20
"""Of each stream; what comes beyond is read and dropped (as kubelet and peers have it)."""
_AT_ONCE = 128
"""Commands under way in one container."""
_KILL_ROUNDS = 20
_LATE_SECONDS = 0.2
"""Most commands are over by then, and the OCI runtime's process soon after its command."""
_REAP_SECONDS = 2.0
_NUMBERS = itertools.count(1)


class Output:
    """One stream of a command, read as it comes."""

    def __init__(self, read: int = -1) -> None:
        """Of a pipe that is made here, or of one whose end for reading is given: it is closed in the end."""
        self.kept = bytearray()
        self.over = asyncio.Event()
        """Set when nobody can write any more."""
        self._read, self.write = (read, -1) if read >= 0 else os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._read, self._on_readable)

    def close_write(self) -> None:
        """The command has its end now; ours goes."""
        if self.write >= 0:
            os.close(self.write)
            self.write = -1

    def close(self) -> None:
        """Take what is there already, and read no more."""
        self.close_write()
        while self._read >= 0 and self._take():
            pass
        self._stop()

    def _on_readable(self) -> None:
        if not self._take():
            self._loop.remove_reader(self._read)
            self.over.set()

    def _take(self) -> bool:
        """Read once; whether more can come at once."""
        try:
            chunk = os.read(self._read, 1 << 16)
        except BlockingIOError:
            return False
        self.kept += chunk[: OUTPUT_LIMIT - len(self.kept)]
        return bool(chunk)

    def _stop(self) -> None:
        if self._read >= 0:
            self._loop.remove_reader(self._read)
            os.close(self._read)
            self._read = -1


RunReaped = Callable[[Container, OciRuntime, ExecRequest, Deadline], Awaitable[Executed]]
"""Runs a command as the reaper's child; raises TimeoutError at the deadline, when all that came of it is killed."""


class Execs:
    """The commands under way."""

    def __init__(self, tasks: Tasks, cgroups: Cgroups, reaped: RunReaped) -> None:
        self._tasks = tasks
        self._events = ProcConnector()
        self._reaped = reaped
        self._cgroups = cgroups
        self._under_way: dict[str, int] = {}

    async def run(
        self, container: Container, runtime: OciRuntime, request: ExecRequest, deadline: Deadline
    ) -> Executed:
        """Run a command to its end; DeadlineExceeded once its time is up."""
        _check(request)
        if container.exited.is_set() or container.state.phase not in ("starting", "started"):
            raise FailedPrecondition(f"container {container.id} is not running")
        under_way = self._under_way.get(container.id, 0)
        if under_way >= _AT_ONCE:
            raise ResourceExhausted(f"container {container.id}: {under_way} commands are under way")
        self._under_way[container.id] = under_way + 1
        try:
            limit = deadline.earlier(request.timeout) if request.timeout else deadline
            with self._events.listen() as since:
                if not self._events.speaks:
                    return await self._reaped(container, runtime, request, limit)
                return await self._run(container, runtime, request, limit, since)
        except TimeoutError:
            seconds = f"within {request.timeout} s" if request.timeout else "before the deadline"
            raise DeadlineExceeded(f"container {container.id}: the command did not end {seconds}") from None
        finally:
            self._under_way[container.id] -= 1
            if not self._under_way[container.id]:
                del self._under_way[container.id]

    async def _run(
        self, container: Container, runtime: OciRuntime, request: ExecRequest, limit: Deadline, since: int
    ) -> Executed:
        pid_file = container.bundle.path / f"exec-{next(_NUMBERS)}.pid"
        spec = in_memory(_process(container.bundle.config, request.cmd))
        out, err = Output(), Output()
        try:
            words = ["exec", "--process", f"/proc/self/fd/{spec}", "--pid-file", str(pid_file), container.id]
            started = process.launch(runtime.command(*words), stdout=out.write, stderr=err.write, pass_fds=(spec,))
            out.close_write()
            err.close_write()
            try:
                async with asyncio.timeout(max(limit.remaining(), 0)):
                    code = await self._code(container, started, pid_file, since)
            except BaseException:
                await self._kill_tree(container, started, pid_file)
                raise
            out.close()
            err.close()
            if code and not pid_file.exists():
                text = err.kept.decode(errors="replace").strip()
                raise Internal(text or f"container {container.id}: exec: {process.describe(code)}")
            return Executed(stdout=bytes(out.kept), stderr=bytes(err.kept), exit_code=code if code >= 0 else 128 - code)
        finally:
            out.close()
            err.close()
            os.close(spec)
            pid_file.unlink(missing_ok=True)

    async def _code(self, container: Container, started: process.Child, pid_file: Path, since: int) -> int:
        """The command's exit code.

        The OCI runtime waits until nobody holds the output open any more, which a child of the command may do for
        ever: where it is late, the command's own end counts.
        """
        waiting = self._tasks.start(started.wait(), f"exec in {container.id}")
        over: asyncio.Task[int] | None = None
        try:
            while over is None:
                if (await asyncio.wait([waiting], timeout=_LATE_SECONDS))[0]:
                    return waiting.result()
                if pid := _pid(pid_file):
                    over = self._tasks.start(self._events.exit_code(pid, since), f"command in {container.id}")
            await asyncio.wait([waiting, over], return_when=asyncio.FIRST_COMPLETED)
            if (await asyncio.wait([waiting], timeout=_LATE_SECONDS))[0]:
                return waiting.result()
            process.kill_group(started)
            await waiting
            return over.result()
        finally:
            waiting.cancel()
            if over is not None:
                over.cancel()

    async def _kill_tree(self, container: Container, started: process.Child, pid_file: Path) -> None:
        """Kill the command, what it started, and the runtime's process that waits for it."""
        roots = {started.pid, *(descendants.origins(pid) if (pid := _pid(pid_file)) else ())}
        await kill_tree(self._cgroups, container.state.cgroup, roots)
        # the OCI runtime is the command's parent: killed before it has reaped it, it would leave a zombie in the
        # container, whose first process may reap nothing
        with suppress(TimeoutError):  # somebody else holds the output open: it waits for that
            async with asyncio.timeout(_REAP_SECONDS):
                await started.wait()
        if started.returncode is None:
            process.kill_group(started)
            await started.wait()


async def kill_tree(cgroups: Cgroups, cgroup: str, roots: set[int]) -> None:
    """Kill those of a container's processes that are `roots` or came of them."""

    def look() -> list[int]:
        return sorted(descendants.grown(roots, descendants.read(cgroups.processes(cgroup))))

    for _ in range(_KILL_ROUNDS):
        found = await asyncio.to_thread(look)
        if not found:
            break
        roots |= set(found)  # orphans of the next round still bear these sessions
        await pidfd.kill(found, 5.0)


def _check(request: ExecRequest) -> None:
    exec_spec.check(request.cmd)
    if request.timeout < 0:
        raise InvalidInput(f"timeout: {request.timeout} is negative")


def _process(config: Path, cmd: tuple[str, ...]) -> bytes:
    """The container's own process specification with another command, and no terminal."""
    try:
        return exec_spec.process(config.read_bytes(), cmd)
    except (OSError, msgspec.DecodeError) as error:
        raise Internal(f"{config} does not read back: {error}") from error


def in_memory(content: bytes) -> int:
    """A descriptor of a file that is nowhere else, and that nobody can write: a file of a disk costs more than all
    else here."""
    fd = os.memfd_create("exec", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return fd


def _pid(pid_file: Path) -> int:
    """The command's pid; 0 where the runtime has not come so far."""
    with suppress(OSError, ValueError):  # not there, or not whole yet
        return int(pid_file.read_text())
    return 0
