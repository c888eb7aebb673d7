"""The supervisor: starts, watches and restarts the workers; owns the state on disk.

Root with four capabilities and no network; parses nothing from outside but its contract's requests. One task per
worker runs its life as a straight line: start, wait until it says that it serves, watch, judge its death, again.

- Ready is a message (`hello` on the bus); alive is not enough. One that misses heartbeats and does no work has died.
- At its own start it adopts what runs (`kernel.supervisor.processes.roster`) and kills nothing.
- It is told to end by SIGTERM, SIGINT or SHUTDOWN: workers end in order, containers are not touched. SIGHUP reads the
  configuration again (`kernel.supervisor.reload`).
- Exits of containers that the runtime worker reports are written down, whether the front is there or not.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kernel import log
from kernel.bus.client import Client
from kernel.bus.worker import Server
from kernel.config import reading as configuration
from kernel.config.sections import Config
from kernel.contracts import runtime
from kernel.contracts.contract import HELLO, Contract, Hello, Message, Nothing
from kernel.contracts.records import Exit
from kernel.contracts.supervisor import CONTRACT, Health, Reloaded
from kernel.errors import CrispError, FailedPrecondition, NotFound, from_os
from kernel.host import files, proc
from kernel.host.aio import Deadline, KeyedLock, Tasks, report_lost_errors
from kernel.host.process import describe
from kernel.ids import short
from kernel.state.store import Store
from kernel.supervisor import reload
from kernel.supervisor.methods import Methods, StateThread
from kernel.supervisor.privileges import enforce, folders
from kernel.supervisor.privileges.workers import FRONT, SUPERVISOR, WORKERS, Row
from kernel.supervisor.processes import notify, restart_policy, roster, spawner_link
from kernel.supervisor.processes.spawning import Process, Spawning

_LOG = logging.getLogger(__name__)
BEAT = 1.0
_PATIENCE = 2.0
_COPY_SECONDS = 10.0
_START_SECONDS = 20.0
_GRACE = 2.0
"""A worker that is back within this time was never down, as far as others are told."""
_TERM_SECONDS = 5.0
_SHUTDOWN_SECONDS = 3.0
_RELOAD_SECONDS = 120.0
_SETTLE = 0.05
"""How often a worker that is being started is looked for while the daemon ends."""


class Worker:
    """One worker as the supervisor sees it."""

    def __init__(self, row: Row, client: Client) -> None:
        self.row = row
        self.client = client
        self.process: Process | None = None
        self.restarts = 0
        self.deaths: tuple[restart_policy.Death, ...] = ()
        self.hello: Hello | None = None
        """The latest that its process has answered."""
        self.state = "starting"
        """As in WorkerStatus."""
        self.down = "it has not started yet"
        """The reason given to those who watch health; empty while all is well."""
        self.told_to_end = False
        self.ready = asyncio.Event()
        self.wake = asyncio.Event()
        """Cuts a back-off short."""


class Supervisor:
    """The loop. Make it inside a running loop."""

    def __init__(self, config: Config, end: socket.socket, children: dict[str, int], netns: int, source: Path) -> None:
        paths = config.paths
        self._config = config
        self._source = source
        self._roster_file = paths.run / "workers.json"
        self._tasks = Tasks()
        self._locks: KeyedLock[str] = KeyedLock()
        self._watchers: set[asyncio.Event] = set()
        self._ending = asyncio.Event()
        self._children = children
        self.workers = {row.name: Worker(row, Client(_contract(row), paths.bus(row.name))) for row in WORKERS}
        self.spawning = Spawning(
            end,
            config_file=configuration.effective_file(config),
            source=source,
            netns=netns,
            on_died=self._log_death,
            on_stop=self.begin_shutdown,
            on_hangup=self._begin_reload,
            on_replaced=self._spawner_replaced,
        )
        self.restarts = 0
        self._keepers: dict[str, asyncio.Task[None]] = {}

    async def run(self, state: StateThread) -> None:
        """Until the daemon is told to end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.begin_shutdown)
        loop.add_signal_handler(signal.SIGHUP, self._begin_reload)
        self._state = state
        server = Server(CONTRACT, Methods(self, state), self._config.paths.bus("supervisor"))
        self._adopt()
        for worker in self.workers.values():
            self._keepers[worker.row.name] = self._tasks.run(self._keep(worker), f"keep {worker.row.name}")
        exits = self._tasks.run(self._record_exits(state), "record exits")
        self._tasks.spawn(self._announce(), "announce")
        self._tasks.spawn(_copy_now_and_then(state), "copy the state")
        ending = self._tasks.run(self._ending.wait(), "wait for the end")
        done, _ = await asyncio.wait({ending, exits, *self._keepers.values()}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {ending}:
            task.result()  # a bug of ours ends this process; the next supervisor adopts the workers
        await self._end_all()
        await server.drain()
        await server.close()
        await self._tasks.close()
        for worker in self.workers.values():
            await worker.client.close()
        self._roster_file.unlink(missing_ok=True)
        await self.spawning.close(0)

    def begin_shutdown(self) -> None:
        """End the daemon soon."""
        self._ending.set()

    def health(self) -> Health:
        """Workers that are down."""
        return Health(down={name: worker.down for name, worker in self.workers.items() if worker.down})

    def watch_health(self, changed: asyncio.Event) -> Callable[[], None]:
        """Set `changed` at each change; gives back what ends that."""
        self._watchers.add(changed)
        return lambda: self._watchers.discard(changed)

    async def restart(self, name: str, deadline: Deadline) -> int:
        """End a worker in order and start it again; the new pid once it is ready."""
        worker = self.workers.get(name)
        if worker is None:
            raise NotFound(f"no worker is named {name!r}", hint=f"the workers are {', '.join(self.workers)}")
        async with self._locks.hold(name), deadline.limit(f"restarting the {name} worker"):
            before = worker.process
            if before is not None and not before.ended.is_set():
                worker.told_to_end = True
                await _end(before, _TERM_SECONDS)
                worker.ready.clear()
            worker.wake.set()
            while (process := worker.process) is None or process is before or not worker.ready.is_set():
                await worker.ready.wait()
            return process.pid

    async def reload(self, deadline: Deadline) -> Reloaded:
        """Read the configuration again; what is wrong with it leaves everything as it is."""
        async with self._locks.hold("reload"), deadline.limit("reading the configuration again"):
            written = await asyncio.to_thread(configuration.load, self._source)
            after = configuration.with_environment(written, os.environ)
            keys = reload.check(self._config, after, (await self._state.load()).sandboxes)
            write_effective(after)
            self._config = after
            self.spawning.reread()
            log.configure("supervisor", after.log_level)
            names = reload.to_restart(keys)
            _LOG.info("the configuration was read again; changed: %s", ", ".join(keys) or "nothing")
            for name in names:
                await self.restart(name, deadline)
        return Reloaded(changed=keys, restarted=names)

    def _begin_reload(self) -> None:
        self._tasks.spawn(self._reload_quietly(), "reload")

    async def _reload_quietly(self) -> None:
        try:
            await self.reload(Deadline.after(_RELOAD_SECONDS))
        except CrispError as error:
            _LOG.error("the configuration stays as it was: %s", error)

    # the life of one worker

    async def _keep(self, worker: Worker) -> None:
        while not self._ending.is_set():
            if worker.process is None:
                await self._start(worker)
            process = worker.process
            if process is not None:
                if await self._becomes_ready(worker, process):
                    await self._watch(worker, process)
                await process.ended.wait()
            await self._after_death(worker)

    async def _start(self, worker: Worker) -> None:
        worker.state = "starting"
        try:
            worker.process = await self.spawning.spawn(worker.row.name)
        except CrispError as error:
            _LOG.error("the %s worker cannot be started: %s", worker.row.name, error)
        self._save()

    async def _becomes_ready(self, worker: Worker, process: Process) -> bool:
        """Wait for the first hello; a worker that does not say it in time is killed."""
        name, until, grace = worker.row.name, Deadline.after(_START_SECONDS), Deadline.after(_GRACE)
        while not process.ended.is_set():
            if await self._says_hello(worker, process, until if worker.down else until.earlier(_GRACE)):
                worker.state, worker.told_to_end = "ready", False
                worker.ready.set()
                self._set_down(worker, "")
                _LOG.info("the %s worker serves, pid %d", name, process.pid)
                return True
            if until.remaining() <= 0:
                _LOG.error("the %s worker does not serve %.0f s after its start: it is killed", name, _START_SECONDS)
                process.signal(signal.SIGKILL)
                await process.ended.wait()
            elif grace.remaining() <= 0 and not worker.down:
                self._set_down(worker, "it is starting")
        return False

    async def _watch(self, worker: Worker, process: Process) -> None:
        """Heartbeats until the process ends or hangs."""
        worked = [proc.main_thread_cpu(process.pid)]
        while not await _within(process.ended, BEAT):
            answered = await self._says_hello(worker, process, Deadline.after(_PATIENCE))
            worked = [*([] if answered else worked), proc.main_thread_cpu(process.pid)]
            if restart_policy.hangs(worked) and not process.ended.is_set():
                _LOG.error("the %s worker, pid %d, hangs: it is killed", worker.row.name, process.pid)
                process.signal(signal.SIGKILL)

    async def _says_hello(self, worker: Worker, process: Process, deadline: Deadline) -> bool:
        call = self._tasks.run(worker.client.call(HELLO, Nothing(), deadline=deadline), f"hello {worker.row.name}")
        gone = self._tasks.run(process.ended.wait(), f"end of {worker.row.name}")
        try:
            await asyncio.wait((call, gone), return_when=asyncio.FIRST_COMPLETED)
            if call.done() and call.result().pid == process.pid:  # not an earlier process's last word
                worker.hello = call.result()
                return True
            return False
        except CrispError:
            return False
        finally:
            call.cancel()
            gone.cancel()

    async def _after_death(self, worker: Worker) -> None:
        """Judge, and wait as long as that says."""
        was_ready, worker.state = worker.state == "ready", "starting"
        worker.process = worker.hello = None
        worker.ready.clear()
        worker.restarts += 1
        if worker.told_to_end or self._ending.is_set():
            worker.told_to_end = False
            return
        worker.deaths = restart_policy.remember(worker.deaths, restart_policy.Death(time.monotonic(), was_ready))
        verdict = restart_policy.judge(worker.deaths)
        if verdict.held:
            worker.state = "held down"
            _LOG.error("the %s worker is held down for %.0f s: %s", worker.row.name, verdict.after, verdict.reason)
            self._set_down(worker, f"held down: {verdict.reason}")
        self._save()
        worker.wake.clear()
        if verdict.after:
            await _within(worker.wake, verdict.after)

    # all of them

    def _adopt(self) -> None:
        """Find the workers that an earlier supervisor started."""
        entries = roster.load(self._roster_file)
        if (earlier := entries.get(SUPERVISOR.name)) is not None:
            self.restarts = earlier.restarts + 1
        if (spawner := entries.get("spawner")) is not None:
            changed = (spawner.pid, spawner.start_time) != (self.spawning.pid, self.spawning.start_time)
            self.spawning.restarts = spawner.restarts + changed
        for name, worker in self.workers.items():
            entry = entries.get(name)
            worker.restarts = entry.restarts if entry else 0
            if name in self._children and (entry is None or entry.pid != self._children[name]):
                # Forked, but the earlier supervisor died before it wrote that down.
                entry = roster.entry(name, self._children[name], worker.restarts)
            pidfd = roster.adopt(entry) if entry else None
            if entry is not None and pidfd is not None:
                worker.process = Process(entry.pid, pidfd)
                _LOG.info("the %s worker, pid %d, is adopted", name, entry.pid)
            elif entry is not None:
                worker.restarts += 1
        self._save()

    def _save(self) -> None:
        own = roster.entry(SUPERVISOR.name, os.getpid(), self.restarts)
        forker = self.spawning
        entries = [
            own,
            roster.Entry(name="spawner", pid=forker.pid, start_time=forker.start_time, restarts=forker.restarts),
        ]
        for name, worker in self.workers.items():
            process = worker.process
            pid, start_time = (process.pid, process.start_time) if process else (0, 0)
            entries.append(roster.Entry(name=name, pid=pid, start_time=start_time, restarts=worker.restarts))
        try:
            roster.save(self._roster_file, entries)
        except OSError as error:  # the workers serve all the same
            _LOG.error("a new supervisor would not find the workers: %s", from_os(error, str(self._roster_file)))

    def _set_down(self, worker: Worker, reason: str) -> None:
        if worker.down != reason:
            worker.down = reason
            for changed in self._watchers:
                changed.set()

    def _log_death(self, died: spawner_link.Died) -> None:
        told = self._ending.is_set() or self.workers[died.name].told_to_end
        level = logging.INFO if told else logging.WARNING
        _LOG.log(level, "the %s worker, pid %d, ended: %s", died.name, died.pid, describe(died.code))

    def _spawner_replaced(self) -> None:
        self._save()
        notify.replaced(self.spawning.pid)

    async def _announce(self) -> None:
        """Tell the service manager, if there is one, when all workers serve for the first time."""
        for worker in self.workers.values():
            await worker.ready.wait()
        _LOG.info("all workers serve")
        notify.ready(self.spawning.pid)

    async def _record_exits(self, state: StateThread) -> None:
        while True:
            try:
                async for event in self.workers["runtime"].client.watch(runtime.WATCH, Nothing()):
                    for fact in _facts(event):
                        if fact.state == "exited":
                            await _record(state, fact)
            except CrispError as error:
                _LOG.error("the runtime worker's events cannot be watched: %s", error)
                await asyncio.sleep(BEAT)

    async def _end_all(self) -> None:
        """The front first, so that nothing new begins; then the others side by side."""
        _LOG.info("the daemon ends; containers run on")
        for worker in self.workers.values():
            worker.wake.set()
        front = self.workers[FRONT.name]
        await self._end_kept(front, _TERM_SECONDS)
        others = (worker for worker in self.workers.values() if worker is not front)
        await asyncio.gather(*(self._end_kept(worker, _SHUTDOWN_SECONDS) for worker in others))

    async def _end_kept(self, worker: Worker, patience: float) -> None:
        """End a worker for good: also one that is being started right now."""
        keeper = self._keepers[worker.row.name]
        while not keeper.done():
            if worker.process is not None:
                await _end(worker.process, patience)
            await asyncio.wait({keeper}, timeout=_SETTLE)


def run(config: Config, end: socket.socket, children: dict[str, int], source: Path) -> int:
    """The supervisor's whole life. `children`: workers that the spawner has forked and not reaped, by name."""
    paths = config.paths
    folders.make(config, _ids)
    folders.link_socket(config)
    lock = _only_one(paths.run / "daemon.lock")
    store = Store.open(paths.state_db)
    write_effective(config)
    netns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    enforce.apply(SUPERVISOR, config)
    if sys.version_info < (3, 12):
        asyncio.get_event_loop_policy().set_child_watcher(asyncio.PidfdChildWatcher())
    try:
        asyncio.run(_live(config, end, children, netns, store, source))
    finally:
        os.close(lock)
    return 0


async def _live(
    config: Config, end: socket.socket, children: dict[str, int], netns: int, store: Store, source: Path
) -> None:
    report_lost_errors()
    with ThreadPoolExecutor(1, "state") as thread:
        state = StateThread(store, thread)
        await Supervisor(config, end, children, netns, source).run(state)
        await state.close()


def write_effective(config: Config) -> None:
    """Replace the effective configuration as a whole."""
    text = configuration.dump(config)  # readable by root alone: a proxy's password may be in it
    file = configuration.effective_file(config)
    try:
        files.replace(file, text.encode(), durable=False, mode=0o600)
    except OSError as error:
        raise from_os(error, f"the effective configuration {file} cannot be written") from error


def _only_one(path: Path) -> int:
    """Hold the run folder for this daemon alone."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 32).decode(errors="replace").strip()
        raise FailedPrecondition(
            f"another crisp daemon serves {path.parent} (supervisor pid {holder})",
            hint="stop it, or give this one a `run` and `root` of its own",
        ) from None
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    return fd


def _ids(user: str) -> tuple[int, int]:
    found = enforce.account(user)
    return found.pw_uid, found.pw_gid


def _contract(row: Row) -> Contract:
    """The contract of a worker; the supervisor calls little of it."""
    found = importlib.import_module(row.contract).CONTRACT
    assert isinstance(found, Contract)  # a test walks the table
    return found


def _facts(event: Message) -> tuple[runtime.ContainerFact, ...]:
    """What an event of the runtime says of containers."""
    match event:
        case runtime.Facts(containers=facts):
            return facts
        case runtime.Changed(fact=fact):
            return (fact,)
        case _:
            return ()


async def _copy_now_and_then(state: StateThread) -> None:
    """Keep a copy of the state beside it, for the day when the file itself is damaged."""
    while True:
        await asyncio.sleep(_COPY_SECONDS)
        try:
            await state.copy()
        except CrispError as error:
            _LOG.warning("no copy of the state is made: %s", error)


async def _record(state: StateThread, fact: runtime.ContainerFact) -> None:
    exit_ = Exit(
        container=fact.container,
        exit_code=fact.exit_code,
        finished_at=fact.finished_at,
        oom_killed=fact.oom_killed,
    )
    try:
        if await state.record_exit(exit_):
            _LOG.info("container %s exited with %d", short(fact.container), fact.exit_code)
    except CrispError as error:  # the runtime says it again when it or we start anew
        _LOG.error("the exit of container %s is not recorded: %s", short(fact.container), error)


async def _end(process: Process, patience: float) -> None:
    """SIGTERM, and SIGKILL to what is left."""
    process.signal(signal.SIGTERM)
    if not await _within(process.ended, patience):
        process.signal(signal.SIGKILL)
        await process.ended.wait()


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether `event` comes within the time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
