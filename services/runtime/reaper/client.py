"""The worker's side of the reaper: finds it by its socket, starts it if there is none, has it start commands.

Run by the runtime worker on its event loop. Rule kept: a request that a reaper may have seen is never sent again.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kernel.errors import Internal
from kernel.host import fdpass, process, rights
from kernel.host.aio import Deadline
from services.runtime.reaper import program
from services.runtime.reaper.connections import GREETING

_ANSWER_BYTES = 4096
_BACKLOG = 512
_KEEP_SECONDS = 30.0
"""Seconds that a reaper without a session is kept: it takes some 5 MB, and starts as slowly as a command."""
_TREE = Path(program.__file__).parents[3]
_PROGRAM = f"import sys; sys.path.insert(0, sys.argv.pop(1)); from {program.__name__} import main; main()"
"""Run without Python's set-up for third-party modules, which halves the time to start."""
_ATTEMPTS = 3
"""Attempts to reach a reaper: one may end at this very moment, because it has no work left."""


class _Answer(msgspec.Struct):
    pid: int = 0
    code: int = 0
    error: str = ""


class ReaperClient:
    """Calls the reaper that listens at a path, and starts it if there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starting = asyncio.Lock()
        self._kept: socket.socket | None = None
        """A connection that is open only to keep the reaper."""
        self._keep_until: asyncio.TimerHandle | None = None

    def alive(self) -> bool:
        """Return whether there is a reaper, which reports and kills the commands that it has started."""
        with _socket() as connection:
            try:
                connection.connect(str(self._path))
            except BlockingIOError:  # its backlog is full
                return True
            except OSError:
                return False
        return True

    def let_go(self) -> None:
        """Stop keeping the reaper: it ends with its last session."""
        if self._keep_until is not None:
            self._keep_until.cancel()
            self._keep_until = None
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    async def start(self, argv: Sequence[str], pid_file: Path, fds: Sequence[int], deadline: Deadline) -> int:
        """Run the OCI runtime, which leaves a command behind and its pid in `pid_file`. Return 0, or its return code.

        `fds` are the status pipe for the command's exit code, then the OCI runtime's descriptors from 0 on, of which
        the command gets the first three; the caller closes its own. Internal if there is no reaper or it is killed.
        """
        request = {"argv": list(argv), "env": process.ENVIRONMENT, "pid_file": str(pid_file)}
        loop = asyncio.get_running_loop()
        async with deadline.limit("exec"):
            with await self._connected() as connection:
                try:
                    rights.send(connection, msgspec.json.encode(request), fds)
                    answer = await loop.sock_recv(connection, _ANSWER_BYTES)
                except OSError as error:
                    raise Internal(f"exec: its reaper is gone: {error.strerror}") from error
        if not answer:
            raise Internal("exec: its reaper was killed")
        answered = msgspec.json.decode(answer, type=_Answer)
        if answered.error:
            raise Internal(answered.error)
        return answered.code

    async def _connected(self) -> socket.socket:
        """Return a connection on which the reaper's greeting has come."""
        for _ in range(_ATTEMPTS):
            connection = _socket()
            try:
                if await self._greeted(connection):
                    self._keep()
                    return connection
            except BaseException:
                connection.close()
                raise
            connection.close()
        raise Internal("exec: no reaper stays long enough to take the request")

    def _keep(self) -> None:
        """Stay connected for a while, so that the reaper stays for the next session."""
        if self._kept is None:
            connection = _socket()
            try:
                connection.connect(str(self._path))
            except OSError:  # its backlog is full just now, or it was killed
                connection.close()
                return
            self._kept = connection
        if self._keep_until is not None:
            self._keep_until.cancel()
        self._keep_until = asyncio.get_running_loop().call_later(_KEEP_SECONDS, self.let_go)

    async def _greeted(self, connection: socket.socket) -> bool:
        """Connect, to a new reaper if there is none, and wait for the greeting. Return False if the reaper ended."""
        try:
            async with self._starting:
                try:
                    await fdpass.connect(connection, self._path)
                except (FileNotFoundError, ConnectionRefusedError):  # there is none, or no longer
                    await self._launch()
                    await fdpass.connect(connection, self._path)
            greeting = await asyncio.get_running_loop().sock_recv(connection, len(GREETING))
        except OSError:  # it ended without having seen this connection
            return False
        return greeting == GREETING

    async def _launch(self) -> None:
        """Start a reaper, which leaves this process at once. It gets its socket by descriptor, listening already."""
        self.let_go()
        self._path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as listener:
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            listener.listen(_BACKLOG)
            words = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(_TREE), str(listener.fileno())]
            started = await process.start(words, stderr=sys.stderr.fileno(), pass_fds=[listener.fileno()])
            async with process.ended_with_body(started):
                code = await started.wait()
        if code:
            raise Internal(f"exec: its reaper: {process.describe(code)}")


def _socket() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    connection.setblocking(False)
    return connection
