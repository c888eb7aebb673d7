"""The fork server: `crisp daemon` is this process. It imports the common modules once and forks from then on.

It runs as root with all privileges, because it forks the runtime worker, whose children become containers. In return
it does nothing else: it is single-threaded, opens no ZeroMQ context and no gRPC channel, parses nothing but the
supervisor's small messages, and sleeps.

- Its first child is the supervisor. When that dies, it forks a new one, which adopts the workers.
- When the spawner dies, the supervisor starts a new one by exec (`--adopt`), which leaves the workers alone; their
  new parent is process 1 and the supervisor watches them by pidfd.
- No child dies with its parent.
- A child closes every descriptor but its log, leads a session of its own, and takes on the privileges of its row.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kernel import log
from kernel.config import reading as configuration
from kernel.config.sections import Config
from kernel.errors import CrispError, FailedPrecondition
from kernel.host import proc, syscalls
from kernel.supervisor.privileges import enforce, reality
from kernel.supervisor.privileges.workers import WORKERS, Row, row
from kernel.supervisor.processes import restart_policy, spawner_link

CANNOT_START = 78
"""Exit status (EX_CONFIG) of a supervisor that must not be started again; the log has the reason."""
_COMMON = (
    "asyncio", "encodings.idna", "linecache", "kernel.bus.worker", "kernel.bus.client", "kernel.supervisor.daemon",
)  # fmt: skip
"""Modules that are imported once for all processes, in addition to the workers' entry points. Modules that an
unprivileged worker would import late must be here (`socket.getaddrinfo` needs the codec `idna`): by then it may not be
able to read their files."""
_OOM_SCORE = -900
_ENDING = frozenset({int(signal.SIGTERM), int(signal.SIGINT)})

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Child:
    name: str
    pid: int
    pidfd: int


def main(config_path: Path | None) -> int:
    """Run the daemon, and return its exit status."""
    try:
        config = configuration.with_environment(configuration.load(config_path), os.environ)
    except CrispError as error:
        print(f"crisp: {error}", file=sys.stderr)
        return CANNOT_START
    return Spawner(config, None, (config_path or configuration.DEFAULT_FILE).absolute()).run()


class Spawner:
    """The loop of the fork server."""

    def __init__(self, config: Config, end: socket.socket | None, source: Path) -> None:
        self._config = config
        self._source = source
        """The file that the administrator wrote."""
        self._end = end
        self._children: dict[int, _Child] = {}
        self._poll = select.poll()
        self._deaths: tuple[restart_policy.Death, ...] = ()
        self._signals, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> int:
        """Serve until the supervisor reports that all is done, and return the exit status that it gives."""
        sys.path[:] = [os.path.abspath(entry) for entry in sys.path]
        os.chdir("/")
        _name_process("spawner")
        log.configure("spawner", self._config.log_level)
        _protect_from_oom()
        _import_all(WORKERS)
        enforce.prepare(WORKERS)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _noted)
        signal.set_wakeup_fd(self._waker)
        self._poll.register(self._signals, select.POLLIN)
        gc.collect()
        gc.freeze()
        if self._end is None:
            self._fork_supervisor()
        else:
            self._poll.register(self._end, select.POLLIN)
        while True:
            for fd, _ in self._poll.poll():
                status = self._on_ready(fd)
                if status is not None:
                    return status

    def _on_ready(self, fd: int) -> int | None:
        if fd == self._signals:
            self._on_signal(set(os.read(fd, 64)))
        elif fd in self._children:
            return self._reap(self._children.pop(fd))
        elif self._end is not None and fd == self._end.fileno():
            return self._on_message(self._end)
        return None

    def _on_signal(self, numbers: set[int]) -> None:
        if self._end is not None and numbers & _ENDING:
            with suppress(OSError):  # the supervisor has just died: its end of file is read next
                spawner_link.send(self._end, spawner_link.Stop())
        elif self._end is not None and signal.SIGHUP in numbers:
            with suppress(OSError):  # as above; the next supervisor reads the file anyway
                spawner_link.send(self._end, spawner_link.Hangup())

    def _on_message(self, end: socket.socket) -> int | None:
        match spawner_link.receive_from_supervisor(end):
            case None:
                self._poll.unregister(end)
                end.close()
                self._end = None
                if not any(child.name == "supervisor" for child in self._children.values()):
                    self._fork_supervisor()  # it was not our child: its death is only visible as the end of the link
            case spawner_link.Bye(status):
                return status
            case spawner_link.Spawn(name):
                self._spawn(end, name)
            case spawner_link.Measure(pids):
                self._tell(spawner_link.Measured(_memory(pids)))
            case spawner_link.Reread():
                self._reread()
        return None

    def _reread(self) -> None:
        """Read the configuration that the supervisor has checked and written."""
        try:
            self._config = configuration.load(configuration.effective_file(self._config))
        except CrispError as error:
            _LOG.error("the changed configuration is not taken up: %s", error)
        log.configure("spawner", self._config.log_level)

    def _spawn(self, end: socket.socket, name: str) -> None:
        try:
            wanted = row(name)
            child = self._fork(name, lambda: _become_worker(wanted, self._config), ())
        except (CrispError, OSError) as error:
            self._tell(spawner_link.Failed(name, str(error)))
            return
        with suppress(OSError):  # the supervisor has just died: the next one gets the list of the children
            spawner_link.send(end, spawner_link.Started(name, child.pid), child.pidfd)

    def _tell(self, message: spawner_link.ToSupervisor) -> None:
        if self._end is not None:
            with suppress(OSError):  # as above
                spawner_link.send(self._end, message)

    def _fork_supervisor(self) -> None:
        ours, theirs = spawner_link.pair()
        children = {child.name: child.pid for child in self._children.values()}
        body = lambda: _become_supervisor(self._config, theirs, children, self._source)  # noqa: E731
        self._fork("supervisor", body, (theirs.fileno(),))
        theirs.close()
        if self._end is not None:
            self._poll.unregister(self._end)
            self._end.close()
        self._end = ours
        self._poll.register(ours, select.POLLIN)

    def _reap(self, child: _Child) -> int | None:
        self._poll.unregister(child.pidfd)
        os.close(child.pidfd)
        code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
        if child.name != "supervisor":
            self._tell(spawner_link.Died(child.name, child.pid, code))
            return None
        if code in (0, CANNOT_START):  # all is done, or the administrator must correct something first
            return code
        self._deaths = restart_policy.remember(self._deaths, restart_policy.Death(time.monotonic(), ready=True))
        verdict = restart_policy.judge(self._deaths)
        _LOG.error("the supervisor ended with %d; a new one follows after %.1f s", code, verdict.after)
        if verdict.after and self._told_to_end(verdict.after):
            return 1
        self._fork_supervisor()
        return None

    def _told_to_end(self, seconds: float) -> bool:
        """Wait `seconds` without a supervisor. Return early, and True, if the daemon is ordered to end meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self._signals], [], [], left)[0] and set(os.read(self._signals, 64)) & _ENDING:
                for child in self._children.values():
                    signal.pidfd_send_signal(child.pidfd, signal.SIGTERM)
                return True
        return False

    def _fork(self, name: str, body: Callable[[], None], keep: tuple[int, ...]) -> _Child:
        pid = os.fork()
        if pid == 0:
            _child(name, self._config, body, keep)
        child = _Child(name, pid, os.pidfd_open(pid))
        self._children[child.pidfd] = child
        self._poll.register(child.pidfd, select.POLLIN)
        return child


def _noted(_number: int, _frame: object) -> None:
    """Do nothing: the wakeup descriptor passes the signal to the loop."""


def _import_all(rows: tuple[Row, ...]) -> None:
    """Import the modules that children would import.

    Measured, this halves the time until a worker is ready again, and the pages are shared. A new version of a worker
    needs a restart of the daemon, which containers do not notice.
    """
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # its hooks are for channels open across a fork: there are none
    for module in (*_COMMON, *(_entry(one)[0] for one in rows), *(one.contract for one in rows)):
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001  # one broken worker must not end the others' parent; its own process logs the reason
            _LOG.warning("%s cannot be imported: %s", module, error)


def _entry(one: Row) -> tuple[str, str]:
    module, _, function = one.entry.partition(":")
    return module, function


def _child(name: str, config: Config, body: Callable[[], None], keep: tuple[int, ...]) -> None:
    """Run a forked process until its end; do not return."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        os.umask(0o022)
        _close_descriptors(keep)
        _name_process(name)
        log.configure(name, config.log_level)
        body()
        status = 0
    except CrispError as error:
        logging.getLogger(__name__).error("%s", error)
        status = CANNOT_START if isinstance(error, FailedPrecondition) else 1
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:  # the boundary of the process: an error that is not logged here is lost
        logging.getLogger(__name__).exception("the %s process failed", name)
    finally:
        sys.stderr.flush()
        os._exit(status)


def _close_descriptors(keep: tuple[int, ...]) -> None:
    """Leave /dev/null as input, the log as output and error, and `keep`."""
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    below = 3
    for fd in sorted(keep):
        os.closerange(below, fd)
        below = fd + 1
    os.closerange(below, os.sysconf("SC_OPEN_MAX"))


def _become_worker(wanted: Row, config: Config) -> None:
    from kernel.bus import worker

    module, function = _entry(wanted)
    create = getattr(importlib.import_module(module), function)
    contract = importlib.import_module(wanted.contract).CONTRACT
    enforce.apply(wanted, config)
    worker.run(contract, create, config)


def _become_supervisor(config: Config, end: socket.socket, children: dict[str, int], source: Path) -> None:
    from kernel.supervisor import daemon

    sys.exit(daemon.run(config, end, children, source))


def _name_process(name: str) -> None:
    """Set `crisp-NAME` in /proc/PID/comm and cmdline."""
    title = f"crisp-{name}"
    syscalls.prctl_name(title)
    found = proc.stat(os.getpid())
    start, end = found.arguments if found else (0, 0)
    if end > start:
        syscalls.write_memory(start, end, title.encode())


def _protect_from_oom() -> None:
    """Have the kernel prefer other processes if memory is exhausted; children inherit this, containers get their own
    score."""
    with suppress(PermissionError):  # no CAP_SYS_RESOURCE: the score stays as it was
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))


def _memory(pids: tuple[int, ...]) -> dict[int, int]:
    found = {}
    for pid in pids:
        with suppress(OSError):  # the supervisor has gone
            found[pid] = reality.pss(pid)
    return found


def _adopting() -> int:
    """Run a spawner that the supervisor has started to replace one that died."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--adopt", type=int, required=True)
    parser.add_argument("--netns", type=int, required=True)
    arguments = parser.parse_args()
    syscalls.setns(arguments.netns, syscalls.CLONE_NEWNET)
    os.close(arguments.netns)
    end = socket.socket(fileno=arguments.adopt)
    os.set_inheritable(arguments.adopt, False)
    end.setblocking(True)
    return Spawner(configuration.load(arguments.config), end, arguments.source).run()


if __name__ == "__main__":
    sys.exit(_adopting())
