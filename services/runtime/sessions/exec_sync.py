"""ExecSync: a command in a running container, run by the OCI runtime as this worker's child, with bounded output.

Run by the runtime worker on its event loop. If the kernel reports no ends of processes, the command runs as a child of
the reaper, as those of sessions do: only its parent learns its exit code while a child of it holds the output open.
Rules kept: the reply waits for the command, never for a child of it that holds the output open; at the time limit the
command and every process that it started are killed, and nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from kernel.contracts.runtime import ExecRequest, Executed
from kernel.errors import DeadlineExceeded, Internal, InvalidInput, ResourceExhausted
from kernel.host import process
from kernel.host.aio import Deadline, Tasks
from kernel.ids import ContainerId, short
from services.runtime.cgroups.cgroup_tree import Cgroups
from services.runtime.exits.proc_connector import ProcConnector
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.reaper import descendants
from services.runtime.records.container import Container
from services.runtime.sessions import exec_process
from services.runtime.sessions.output import Output
from services.runtime.spec import exec_spec

_AT_ONCE = 128
"""Commands under way in one container."""
_LATE_SECONDS = 0.2
"""Seconds in which most commands are over, and in which the OCI runtime's process ends after its command."""
_REAP_SECONDS = 2.0
"""Seconds that the OCI runtime may take to reap a command that was killed."""
_NUMBERS = itertools.count(1)


RunReaped = Callable[[Container, OciRuntime, ExecRequest, Deadline], Awaitable[Executed]]
"""Runs a command as the reaper's child; at the deadline kills all that it started and raises TimeoutError."""


class Execs:
    """The commands under way."""

    def __init__(self, tasks: Tasks, cgroups: Cgroups, run_reaped: RunReaped) -> None:
        self._tasks = tasks
        self._events = ProcConnector()
        self._run_reaped = run_reaped
        self._cgroups = cgroups
        self._under_way: dict[ContainerId, int] = {}
        """The number of commands under way, by container."""

    async def run(
        self, container: Container, runtime: OciRuntime, request: ExecRequest, deadline: Deadline
    ) -> Executed:
        """Run a command to its end; DeadlineExceeded once its time is up.

        FailedPrecondition if the container does not run, Internal with the OCI runtime's message if the command
        cannot be started, ResourceExhausted if too many are under way.
        """
        _check(request)
        container.check_running()
        under_way = self._under_way.get(container.id, 0)
        if under_way >= _AT_ONCE:
            raise ResourceExhausted(f"container {container.id}: {under_way} commands are under way")
        self._under_way[container.id] = under_way + 1
        try:
            limit = deadline.earlier(request.timeout) if request.timeout else deadline
            with self._events.listen() as since:
                if not self._events.speaks:
                    return await self._run_reaped(container, runtime, request, limit)
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
        spec = exec_process.in_memory(_process(container.bundle.config, request.cmd))
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
        """Return the command's exit code; negative is the signal that ended the OCI runtime.

        The OCI runtime waits until no process holds the output open any more, which a child of the command may do for
        ever: if it is late, the command's own end counts.
        """
        waiting = self._tasks.run(started.wait(), f"exec in container {short(container.id)}")
        over: asyncio.Task[int] | None = None
        try:
            while over is None:
                if (await asyncio.wait([waiting], timeout=_LATE_SECONDS))[0]:
                    return waiting.result()
                if pid := exec_process.written_pid(pid_file):
                    name = f"command in container {short(container.id)}"
                    over = self._tasks.run(self._events.exit_code(pid, since), name)
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
        """Kill the command, the processes that it started, and the OCI runtime's process that waits for it."""
        pid = exec_process.written_pid(pid_file)
        roots = {started.pid, *(descendants.origins(pid) if pid else ())}
        await exec_process.kill_tree(self._cgroups, container.state.cgroup, roots)
        # The OCI runtime is the command's parent. Killed before it has reaped the command, it would leave a zombie in
        # the container, whose first process may reap nothing.
        with suppress(TimeoutError):  # it waits for another process that holds the output open
            async with asyncio.timeout(_REAP_SECONDS):
                await started.wait()
        if started.returncode is None:
            process.kill_group(started)
            await started.wait()


def _check(request: ExecRequest) -> None:
    exec_spec.check(request.cmd)
    if request.timeout < 0:
        raise InvalidInput(f"timeout: {request.timeout} is negative")


def _process(config: Path, cmd: tuple[str, ...]) -> bytes:
    """Return the container's own process specification with another command, and no terminal."""
    try:
        return exec_spec.process(config.read_bytes(), cmd)
    except (OSError, msgspec.DecodeError) as error:
        raise Internal(f"{config} cannot be read: {error}") from error
