"""The runtime worker's side of the reaper: found by its socket, started where there is none, asked to run a command.

Run by the runtime worker on its event loop. Rule kept: a request that a reaper may have seen is never sent again.
"""

from __future__ import annotations

import array
import asyncio
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kernel.errors import Internal
from kernel.host import fdpass, process
from kernel.host.aio import Deadline
from services.runtime.reaper import program

_ANSWER_BYTES = 4096
_BACKLOG = 512
_KEEP_SECONDS = 30.0
"""How long a reaper without a session is kept: it is some 5 MB, and takes as long to start as a command does."""
_TREE = Path(program.__file__).parents[3]
_PROGRAM = f"import sys; sys.path.insert(0, sys.argv.pop(1)); from {program.__name__} import main; main()"
"""Without what Python sets up for third parties' modules: half the time to start."""
_ATTEMPTS = 3
"""One may end just as it is asked, when nothing was left for it to do."""


class _Said(msgspec.Struct):
    pid: int = 0
    code: int = 0
    error: str = ""


class Reaping:
    """Asks the reaper at a path, which it may have to start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starting = asyncio.Lock()
        self._kept: socket.socket | None = None
        self._keep_until: asyncio.TimerHandle | None = None

    def alive(self) -> bool:
        """Whether there is a reaper, which looks after the commands that it has started."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as connection:
            connection.setblocking(False)
            try:
                connection.connect(str(self._path))
            except BlockingIOError:  # so many ask it
                return True
            except OSError:
                return False
        return True

    def let_go(self) -> None:
        """Keep the reaper for no further session."""
        if self._keep_until is not None:
            self._keep_until.cancel()
            self._keep_until = None
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    async def start(self, argv: Sequence[str], pid_file: Path, fds: Sequence[int], deadline: Deadline) -> int:
        """Run the OCI runtime, which leaves a command behind whose pid is in `pid_file`: 0, or its return code.

        `fds` are the pipe for its exit code, then the OCI runtime's descriptors from 0 on, the first three of which the
        command gets too; the caller closes its own.
        """
        ask = {"argv": list(argv), "env": process.ENVIRONMENT, "pid_file": str(pid_file)}
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        loop = asyncio.get_running_loop()
        async with deadline.limit("exec"):
            with await self._connected() as connection:
                try:
                    connection.sendmsg([msgspec.json.encode(ask)], [rights])
                    answer = await loop.sock_recv(connection, _ANSWER_BYTES)
                except OSError as error:
                    raise Internal(f"exec: its reaper is gone: {error.strerror}") from error
        if not answer:
            raise Internal("exec: its reaper was killed")
        said = msgspec.json.decode(answer, type=_Said)
        if said.error:
            raise Internal(said.error)
        return said.code

    async def _connected(self) -> socket.socket:
        """A connection that has been greeted."""
        for _ in range(_ATTEMPTS):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
            connection.setblocking(False)
            try:
                if await self._greeted(connection):
                    self._keep()
                    return connection
            except BaseException:
                connection.close()
                raise
            connection.close()
        raise Internal("exec: no reaper stays long enough to be asked")

    def _keep(self) -> None:
        """Be connected for a while, so that the reaper stays for the next session."""
        if self._kept is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
            connection.setblocking(False)
            try:
                connection.connect(str(self._path))
            except OSError:  # too many are at it just now, or it was killed
                connection.close()
                return
            self._kept = connection
        if self._keep_until is not None:
            self._keep_until.cancel()
        self._keep_until = asyncio.get_running_loop().call_later(_KEEP_SECONDS, self.let_go)

    async def _greeted(self, connection: socket.socket) -> bool:
        try:
            async with self._starting:
                try:
                    await fdpass.connect(connection, self._path)
                except (FileNotFoundError, ConnectionRefusedError):  # none yet, or none any more
                    await self._launch()
                    await fdpass.connect(connection, self._path)
            greeting = await asyncio.get_running_loop().sock_recv(connection, len(program.GREETING))
        except OSError:  # it ended without having seen us
            return False
        return greeting == program.GREETING

    async def _launch(self) -> None:
        """Start a reaper, which leaves us at once. Its socket's path is not in its arguments: it is handed over."""
        self.let_go()
        self._path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as listener:
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            listener.listen(_BACKLOG)
            words = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(_TREE), str(listener.fileno())]
            started = await process.start(words, stderr=sys.stderr.fileno(), pass_fds=[listener.fileno()])
            try:
                code = await started.wait()
            finally:
                if started.returncode is None:
                    process.kill_group(started)
                    await started.wait()
        if code:
            raise Internal(f"exec: its reaper: {process.describe(code)}")
