"""The reaper: the parent of exec sessions' commands. Their exit codes are reported whatever else is killed.

A process of its own, root, single-threaded, with the standard library alone: it starts quickly and stays small. A
runtime worker starts it with the first session; it ends once it has no session and no worker keeps it. Rules kept: it
has no state but its children; it waits for nothing but events; the status pipe is the only descriptor that it holds of
a session. The README beside this module draws the processes and pipes.
"""

from __future__ import annotations

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
from services.runtime.reaper.command import Command
from services.runtime.reaper.connections import Connections, RawRequest

_FIRST_SECONDS = 10.0
"""Seconds to wait for the first connection of the worker that started it."""


class _Request(TypedDict):
    argv: list[str]
    env: dict[str, str]
    pid_file: str


class Reaper:
    """The loop: events of the listening socket, of connections, of status pipes and of children."""

    def __init__(self, listener: socket.socket) -> None:
        self._woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.signal(signal.SIGTERM, self._on_term)
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)
        self._connections = Connections(listener, self._poll)
        self._commands: dict[int, Command] = {}
        """The commands by the descriptor of their status pipe."""
        self._orphans: dict[int, int] = {}
        """Exit codes of children that are no known command, by pid. The OCI runtime that left them has not ended."""
        self._begun_at = time.monotonic()
        self._is_ending = False

    def run(self) -> None:
        """Serve until the reaper has no session and no connection."""
        while (wait := self._wait()) != 0 or self._commands:
            for fd, _ in self._poll.poll(None if wait is None else wait * 1000):
                if fd == self._woken:
                    with suppress(BlockingIOError):
                        os.read(fd, 4096)
                elif fd in self._commands:
                    self._abandon(self._commands[fd])
                elif (raw := self._connections.receive(fd)) is not None:
                    self._start(raw)
            if self._is_ending:
                for command in self._commands.values():
                    self._abandon(command)
            self._reap()
            self._kill()

    def _wait(self) -> float | None:
        """Return the seconds until work is due without an event; None if none is, 0 if the reaper can end."""
        now = time.monotonic()
        if self._is_ending and not self._commands:
            return 0.0
        if self._commands or self._connections:
            rounds = [command.kill_at for command in self._commands.values() if command.kill_at]
            return max(min(rounds) - now, 0.0) if rounds else None
        return 0.0 if self._connections.had_any else max(self._begun_at + _FIRST_SECONDS - now, 0.0)

    def _on_term(self, _number: int, _frame: object) -> None:
        """End all sessions: the host shuts down, or the whole service is stopped."""
        self._is_ending = True

    def _start(self, raw: RawRequest) -> None:
        """Start the OCI runtime with the descriptors that came with the request."""
        status, *others = raw.fds
        try:
            request: _Request = json.loads(raw.message)
            # not by kernel.host.process, which needs an event loop, nor in a session of its own, which costs time
            runtime = os.posix_spawn(
                request["argv"][0], request["argv"], request["env"], setpgroup=0, setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGCHLD, signal.SIGXFSZ),
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(others)],
            )  # fmt: skip
        except OSError as error:
            os.close(status)
            reason = f"{request['argv'][0]}: cannot be started: {error.strerror}"
            self._connections.answer(raw.connection, error=reason)
            return
        except (ValueError, KeyError) as error:  # a worker of another version
            os.close(status)
            self._connections.answer(raw.connection, error=f"the reaper cannot read the request: {error}")
            return
        finally:
            for fd in others:
                os.close(fd)
        os.set_blocking(status, False)
        self._commands[status] = Command(raw.connection, status, request["pid_file"], runtime)
        self._poll.register(status, 0)  # only the event that it has no reader any more

    def _reap(self) -> None:
        """Take the exit codes of all children that have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self._on_end(pid, os.waitstatus_to_exitcode(status))
        if not any(command.runtime for command in self._commands.values()):
            self._orphans.clear()

    def _on_end(self, pid: int, code: int) -> None:
        for command in self._commands.values():
            if pid == command.runtime:
                self._on_runtime_end(command, code)
                return
            if pid == command.pid:
                self._on_command_end(command, code)
                return
        self._orphans[pid] = code

    def _on_runtime_end(self, command: Command, code: int) -> None:
        """Answer the worker: the OCI runtime has left the command to the reaper, or has failed."""
        command.runtime = 0
        if code == 0:
            command.pid = command.written_pid()
        if command.pid == 0:
            if not command.kill_at:
                self._forget(command)
            self._connections.answer(command.connection, code=code)
            return
        command.add(command.pid)
        self._connections.answer(command.connection, pid=command.pid)
        if command.pid in self._orphans:
            self._on_command_end(command, self._orphans.pop(command.pid))
        elif not _is_child(command.pid):  # the OCI runtime has reaped it, so its exit code is unknown
            self._forget(command)

    def _on_command_end(self, command: Command, code: int) -> None:
        command.pid = 0
        if not command.kill_at:
            command.report(code)
            self._forget(command)

    def _abandon(self, command: Command) -> None:
        """Kill the rest of a command, because its status pipe has no reader any more."""
        if not command.kill_at:
            self._poll.unregister(command.status)
            command.kill_at = time.monotonic()

    def _kill(self) -> None:
        """Signal the rest of abandoned commands, if a round is due: /proc is read once for all of them."""
        now = time.monotonic()
        due = [command for command in self._commands.values() if command.kill_at and command.kill_at <= now]
        if not due:
            return
        table = descendants.read()
        for command in due:
            left = command.written_pid()  # its OCI runtime may not have ended yet
            if left in table and table[left].parent == os.getpid():
                command.add(left)
            # no new process gets the id of a group or session as long as any of its members lives
            roots = [pid for pid, start in command.roots.items() if pid not in table or table[pid].start == start]
            found = descendants.grown(roots, table)
            if not found and not command.runtime and not command.pid:
                self._forget(command)
                continue
            command.roots |= {pid: table[pid].start for pid in found}  # their orphans have these as groups or sessions
            descendants.kill(found, table)
            command.next_round(now)

    def _forget(self, command: Command) -> None:
        del self._commands[command.status]
        if not command.kill_at:
            self._poll.unregister(command.status)
        os.close(command.status)
        command.remove_pid_file()


def _is_child(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def main() -> None:
    """Leave the worker that started this process, and serve. The argument is the number of a listening socket."""
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
