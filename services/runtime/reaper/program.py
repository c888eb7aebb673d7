"""The reaper: parent of the commands of exec sessions, so that somebody learns how they end whoever else is killed.

A process of its own, which a runtime worker starts with the first session and which ends once it has no session and
no worker keeps it; workers that come later find it by its socket. It runs the OCI runtime's detached `exec` with the
descriptors it is given and becomes, as nearest subreaper, the parent of the command that it leaves. When that ends its
exit code goes down the session's status pipe. When nobody reads that pipe any more, the client has gone, or the process
that served it: what is left of the command is killed. It has no state but its children, waits for nothing but events,
and holds no descriptor of a session but the status pipe. It starts quickly and stays small: no third party's modules.

A connection keeps it, and may ask for one command: a greeting to the worker, then `{argv, env, pid_file}` with
descriptors (status, and those of the OCI runtime from 0 on), then `{pid}`, `{code}` of an OCI runtime that failed, or
`{error}`.
"""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import TypedDict

from kernel.host import syscalls
from services.runtime.reaper import descendants

GREETING = b"+"
_LEAST_DESCRIPTORS, _MOST_DESCRIPTORS = 4, 8
_MOST_BYTES = 64 << 10
_SPACE = socket.CMSG_LEN(_MOST_DESCRIPTORS * array.array("i").itemsize)
_FIRST_SECONDS = 10.0
"""How long it waits for its worker to come."""
_FIRST_ROUND = 0.02
_LATER_ROUNDS = 1.0
"""Seconds from one round of signals to the next: the pause doubles up to this."""


_ENDED = 0
"""The start time of one that only a group or session is named for."""


class _Ask(TypedDict):
    argv: list[str]
    env: dict[str, str]
    pid_file: str


class _Command:
    """One session's command, from the OCI runtime's start to its own end."""

    def __init__(self, connection: socket.socket, status: int, pid_file: str, runtime: int) -> None:
        self.connection: socket.socket | None = connection
        self.status = status
        self.pid_file = pid_file
        self.runtime = runtime
        """The OCI runtime's process; 0 once it has ended."""
        self.pid = 0
        """The command's; 0 before the OCI runtime has told it."""
        self.roots: dict[int, int] = {}
        """Whose descendants are killed in the end, with their start times."""
        self.kill_at = 0.0
        """When to signal next what is left of it; 0 where it is to live. Once set, it stays until nothing is left."""
        self.pause = _FIRST_ROUND
        self.add(runtime)

    def add(self, pid: int) -> None:
        """A child of ours that belongs to the session: nobody else can have its pid."""
        found = descendants.entry(pid)
        if found is None:  # it has ended already, and its group bears its id
            self.roots.setdefault(pid, _ENDED)
        else:
            # crun leaves the command in the session of a process that has ended
            self.roots |= {found.session: _ENDED, pid: found.start}


class Reaper:
    """The loop."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        listener.setblocking(False)
        self._woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self._connections: dict[int, socket.socket] = {}
        self._commands: dict[int, _Command] = {}
        """By status pipe."""
        self._orphans: dict[int, int] = {}
        """How children ended that no command is known of yet: their OCI runtime's end is still to be seen."""
        self._asked = False
        """Whether anybody ever was connected."""
        self._begun_at = time.monotonic()
        self._told_to_end = False
        signal.signal(signal.SIGTERM, self._on_term)
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)

    def run(self) -> None:
        """Serve until nobody needs it any more."""
        while (wait := self._wait()) != 0 or self._commands:
            for fd, _ in self._poll.poll(None if wait is None else wait * 1000):
                if fd == self._listener.fileno():
                    self._accept()
                elif fd == self._woken:
                    with suppress(BlockingIOError):
                        os.read(fd, 4096)
                elif fd in self._connections:
                    self._on_connection(fd)
                elif fd in self._commands:
                    self._abandon(self._commands[fd])
            if self._told_to_end:
                for command in self._commands.values():
                    self._abandon(command)
            self._reap()
            self._kill()

    def _wait(self) -> float | None:
        """Seconds until there is something to do without an event; None where there is not, 0 where all is done."""
        now = time.monotonic()
        if self._told_to_end and not self._commands:
            return 0.0
        if self._commands or self._connections:
            rounds = [command.kill_at for command in self._commands.values() if command.kill_at]
            return max(min(rounds) - now, 0.0) if rounds else None
        return 0.0 if self._asked else max(self._begun_at + _FIRST_SECONDS - now, 0.0)

    def _on_term(self, _number: int, _frame: object) -> None:
        """The host or the whole service ends, and so do all sessions."""
        self._told_to_end = True

    def _accept(self) -> None:
        with suppress(OSError):  # it has gone again
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self._connections[connection.fileno()] = connection
            self._poll.register(connection, select.POLLIN)
            self._asked = True
            connection.send(GREETING)

    def _on_connection(self, fd: int) -> None:
        """A worker asks, or has gone."""
        connection = self._connections[fd]
        fds = array.array("i")
        try:
            message, ancillary, _, _ = connection.recvmsg(_MOST_BYTES, _SPACE, socket.MSG_CMSG_CLOEXEC)
            for _, _, data in ancillary:
                fds.frombytes(data)
        except OSError:
            message = b""
        if message and len(fds) >= _LEAST_DESCRIPTORS:
            self._start(connection, message, list(fds))
            return
        for one in fds:
            os.close(one)
        self._drop(connection)  # a start of its own is abandoned with its status pipe

    def _start(self, connection: socket.socket, message: bytes, fds: list[int]) -> None:
        status, *others = fds
        try:
            ask: _Ask = json.loads(message)
            # not by kernel.host.process, which wants an event loop, nor in a session of its own, which costs time
            runtime = os.posix_spawn(
                ask["argv"][0], ask["argv"], ask["env"], setpgroup=0, setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGCHLD, signal.SIGXFSZ),
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(others)],
            )  # fmt: skip
        except OSError as error:
            os.close(status)
            self._answer(connection, error=f"{ask['argv'][0]}: cannot be started: {error.strerror}")
            return
        except (ValueError, KeyError) as error:  # a worker of another version
            os.close(status)
            self._answer(connection, error=f"the reaper does not understand: {error}")
            return
        finally:
            for fd in others:
                os.close(fd)
        os.set_blocking(status, False)
        self._commands[status] = _Command(connection, status, ask["pid_file"], runtime)
        self._poll.register(status, 0)  # it says when nobody reads it any more

    def _reap(self) -> None:
        while True:
            try:
                pid, how = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self._ended(pid, os.waitstatus_to_exitcode(how))
        if not any(command.runtime for command in self._commands.values()):
            self._orphans.clear()

    def _ended(self, pid: int, code: int) -> None:
        for command in self._commands.values():
            if pid == command.runtime:
                self._started(command, code)
                return
            if pid == command.pid:
                self._finish(command, code)
                return
        self._orphans[pid] = code

    def _started(self, command: _Command, code: int) -> None:
        """The OCI runtime has left the command to us, or has failed."""
        command.runtime = 0
        if code == 0:
            command.pid = _pid(command.pid_file)
        connection, command.connection = command.connection, None
        if command.pid == 0:
            if not command.kill_at:
                self._forget(command)
            if connection is not None:
                self._answer(connection, code=code)
            return
        command.add(command.pid)
        if connection is not None:
            self._answer(connection, pid=command.pid)
        if command.pid in self._orphans:
            self._finish(command, self._orphans.pop(command.pid))
        elif not _is_child(command.pid):  # the OCI runtime has seen its end itself, and told nobody
            self._forget(command)

    def _finish(self, command: _Command, code: int) -> None:
        """The command has ended: its exit code as a shell counts it."""
        command.pid = 0
        if command.kill_at:
            return
        _remove(command.pid_file)  # first: who hears the code may look
        with suppress(OSError):  # nobody reads it
            os.write(command.status, b"%d\n" % (code if code >= 0 else 128 - code))
        self._forget(command)

    def _abandon(self, command: _Command) -> None:
        """Nobody wants to know any more: kill what is left of it."""
        if not command.kill_at:
            self._poll.unregister(command.status)
            command.kill_at = time.monotonic()

    def _kill(self) -> None:
        """A round of signals to what is left of abandoned commands, one reading of /proc for all of them."""
        now = time.monotonic()
        due = [command for command in self._commands.values() if command.kill_at and command.kill_at <= now]
        if not due:
            return
        table = descendants.read()
        for command in due:
            left = _pid(command.pid_file)  # by an OCI runtime that has not told us yet
            if left in table and table[left].parent == os.getpid():
                command.add(left)
            # the id of a group or session is no new process's as long as any of its members lives
            roots = [pid for pid, start in command.roots.items() if pid not in table or table[pid].start == start]
            found = descendants.grown(roots, table)
            if not found and not command.runtime and not command.pid:
                self._forget(command)
                continue
            command.roots |= {pid: table[pid].start for pid in found}  # orphans of the next round bear these sessions
            descendants.kill(found, table)
            command.kill_at = now + command.pause
            command.pause = min(command.pause * 2, _LATER_ROUNDS)

    def _forget(self, command: _Command) -> None:
        del self._commands[command.status]
        if not command.kill_at:
            self._poll.unregister(command.status)
        os.close(command.status)
        _remove(command.pid_file)

    def _answer(self, connection: socket.socket, **said: object) -> None:
        with suppress(OSError):  # the worker has gone
            connection.send(json.dumps(said).encode())
        self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        if self._connections.pop(connection.fileno(), None) is None:
            return
        for command in self._commands.values():
            if command.connection is connection:
                command.connection = None
        self._poll.unregister(connection)
        connection.close()


def _is_child(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _pid(pid_file: str) -> int:
    """What the OCI runtime has written there; 0 where it has not."""
    with suppress(OSError, ValueError), open(pid_file) as file:
        return int(file.read())
    return 0


def _remove(pid_file: str) -> None:
    with suppress(OSError):  # removed with its container
        os.unlink(pid_file)


def main() -> None:
    """Leave the worker that started it, and serve. The argument is the number of a listening socket."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    listener.set_inheritable(False)
    if os.fork():
        os._exit(0)
    os.setsid()
    os.umask(0o022)
    os.chdir("/")
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    syscalls.prctl_name("crisp-reaper")
    Reaper(listener).run()
