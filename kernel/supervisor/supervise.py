"""All workers together: the supervisor starts and adopts them, ends them in order, and records exits of containers.

It is root with four capabilities and no network, and parses nothing from outside but its contract's requests.

- At its own start it adopts the workers that run (`processes.roster`) and kills nothing.
- It ends on SIGTERM, SIGINT or SHUTDOWN: workers end in order, containers are not touched. SIGHUP has it
  read the configuration again (`reload`).
- Exits of containers that the runtime worker reports are recorded, whether the front runs or not.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kernel import log
from kernel.bus.client import Client
from kernel.config import reading as configuration
from kernel.config.sections import Config
from kernel.contracts import runtime
from kernel.contracts.definition import Contract, Message, Nothing
from kernel.contracts.records import Exit
from kernel.contracts.supervisor import Health, Reloaded
from kernel.errors import CrispError, NotFound, from_os
from kernel.host import files
from kernel.host.aio import Deadline, Tasks
from kernel.host.process import describe
from kernel.ids import short
from kernel.state.thread import StateThread
from kernel.supervisor import reload
from kernel.supervisor.keeper import BEAT, Keeper
from kernel.supervisor.privileges.workers import FRONT, SUPERVISOR, WORKERS, Row
from kernel.supervisor.processes import notify, roster, spawner_link
from kernel.supervisor.processes.spawning import Process, Spawning

_LOG = logging.getLogger(__name__)
_COPY_SECONDS = 10.0
"""Seconds between two copies of the state, if it has changed."""
_SHUTDOWN_SECONDS = 3.0
"""Seconds between SIGTERM and SIGKILL for each worker but the front while the daemon ends."""
_RELOAD_SECONDS = 120.0


class Supervisor:
    """The workers and the spawner. Make it inside a running loop."""

    def __init__(
        self,
        config: Config,
        end: socket.socket,
        children: dict[str, int],
        netns: int,
        source: Path,
        state: StateThread,
    ) -> None:
        """`end`: the link to the spawner. `children`: the pids of workers that it has forked and not reaped, by name.
        `netns`: a descriptor of the host's network namespace. `source`: the administrator's configuration file."""
        self._config = config
        self._source = source
        self._state = state
        self._children = children
        self._roster_file = config.paths.run / "workers.json"
        self._tasks = Tasks()
        self._watchers: set[asyncio.Event] = set()
        self._ending = asyncio.Event()
        self._reloading = asyncio.Lock()
        self.restarts = 0
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
        self.workers = {row.name: self._keeper(row) for row in WORKERS}

    def _keeper(self, row: Row) -> Keeper:
        client = Client(_contract(row), self._config.paths.bus(row.name))
        return Keeper(
            row.name, client, self.spawning, self._tasks, on_process=self._save_roster, on_health=self._tell_health
        )

    def adopt(self) -> None:
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
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    # It was forked, but the earlier supervisor died before it wrote that down.
                    entry = roster.entry(name, self._children[name], worker.restarts)
            fd = roster.adopt(entry) if entry else None
            if entry is not None and fd is not None:
                worker.process = Process(entry.pid, fd)
                _LOG.info("the %s worker, pid %d, is adopted", name, entry.pid)
            elif entry is not None:
                worker.restarts += 1
        self._save_roster()

    async def run(self) -> None:
        """Keep the workers until the daemon is ordered to end, then end them."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.begin_shutdown)
        loop.add_signal_handler(signal.SIGHUP, self._begin_reload)
        kept = {name: self._tasks.run(worker.keep(), f"keep {name}") for name, worker in self.workers.items()}
        exits = self._tasks.run(self._record_exits(), "record exits")
        self._tasks.spawn(self._announce(), "announce")
        self._tasks.spawn(self._copy_now_and_then(), "copy the state")
        ending = self._tasks.run(self._ending.wait(), "wait for the end")
        done, _ = await asyncio.wait({ending, exits, *kept.values()}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {ending}:
            task.result()  # a bug ends this process; the next supervisor adopts the workers
        await self._end_all(kept)

    async def close(self) -> None:
        """Send the spawner the report that all is done, after the last worker has ended."""
        await self._tasks.close()
        for worker in self.workers.values():
            await worker.client.close()
        self._roster_file.unlink(missing_ok=True)
        await self.spawning.close(0)

    def begin_shutdown(self) -> None:
        """End the daemon soon."""
        self._ending.set()

    def health(self) -> Health:
        """Return the workers that are down."""
        return Health(down={name: worker.down for name, worker in self.workers.items() if worker.down})

    def watch_health(self, changed: asyncio.Event) -> Callable[[], None]:
        """Set `changed` at each change. Return a function that ends this."""
        self._watchers.add(changed)
        return lambda: self._watchers.discard(changed)

    async def restart(self, name: str, deadline: Deadline) -> int:
        """End a worker in order and start it again. Return the new pid once it is ready."""
        worker = self.workers.get(name)
        if worker is None:
            raise NotFound(f"no worker is named {name!r}", hint=f"the workers are {', '.join(self.workers)}")
        return await worker.restart(deadline)

    async def reload(self, deadline: Deadline) -> Reloaded:
        """Read the configuration again. If anything is wrong with it, everything stays as it is."""
        async with deadline.limit("reading the configuration again"), self._reloading:
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

    def _save_roster(self) -> None:
        own = roster.entry(SUPERVISOR.name, os.getpid(), self.restarts)
        spawner = roster.Entry(
            name="spawner",
            pid=self.spawning.pid,
            start_time=self.spawning.start_time,
            restarts=self.spawning.restarts,
        )
        entries = [own, spawner]
        for name, worker in self.workers.items():
            process = worker.process
            pid, start_time = (process.pid, process.start_time) if process else (0, 0)
            entries.append(roster.Entry(name=name, pid=pid, start_time=start_time, restarts=worker.restarts))
        try:
            roster.save(self._roster_file, entries)
        except OSError as error:  # the workers serve in any case
            _LOG.error("a new supervisor would not find the workers: %s", from_os(error, str(self._roster_file)))

    def _tell_health(self) -> None:
        for changed in self._watchers:
            changed.set()

    def _log_death(self, died: spawner_link.Died) -> None:
        told = self._ending.is_set() or self.workers[died.name].told_to_end
        level = logging.INFO if told else logging.WARNING
        _LOG.log(level, "the %s worker, pid %d, ended: %s", died.name, died.pid, describe(died.code))

    def _spawner_replaced(self) -> None:
        self._save_roster()
        notify.replaced(self.spawning.pid)

    async def _announce(self) -> None:
        """Report to the service manager, if there is one, that all workers are ready for the first time."""
        for worker in self.workers.values():
            await worker.ready.wait()
        _LOG.info("all workers serve")
        notify.ready(self.spawning.pid)

    async def _record_exits(self) -> None:
        while True:
            try:
                async for event in self.workers["runtime"].client.watch(runtime.WATCH, Nothing()):
                    for fact in _facts(event):
                        if fact.state == "exited":
                            await _record(self._state, fact)
            except CrispError as error:
                _LOG.error("the runtime worker's events cannot be watched: %s", error)
                await asyncio.sleep(BEAT)

    async def _copy_now_and_then(self) -> None:
        """Copy the state regularly, as a replacement for the case that its file is damaged."""
        while True:
            await asyncio.sleep(_COPY_SECONDS)
            try:
                await self._state.copy()
            except CrispError as error:
                _LOG.warning("no copy of the state is made: %s", error)

    async def _end_all(self, kept: dict[str, asyncio.Task[None]]) -> None:
        """End the front first, so that nothing new begins; then the others side by side."""
        _LOG.info("the daemon ends; containers run on")
        for worker in self.workers.values():
            worker.begin_end()
        await self.workers[FRONT.name].end(kept[FRONT.name])
        others = [worker for name, worker in self.workers.items() if name != FRONT.name]
        await asyncio.gather(*(worker.end(kept[worker.name], _SHUTDOWN_SECONDS) for worker in others))


def write_effective(config: Config) -> None:
    """Replace the effective configuration as a whole."""
    text = configuration.dump(config)  # readable by root alone: a proxy's password may be in it
    file = configuration.effective_file(config)
    try:
        files.replace(file, text.encode(), durable=False, mode=0o600)
    except OSError as error:
        raise from_os(error, f"the effective configuration {file} cannot be written") from error


def _contract(row: Row) -> Contract:
    """Return the contract of a worker, reduced to the few methods that the supervisor calls."""
    found = importlib.import_module(row.contract).CONTRACT
    assert isinstance(found, Contract)  # a test walks the table
    return found


def _facts(event: Message) -> tuple[runtime.ContainerFact, ...]:
    """Return what an event of the runtime reports about containers."""
    match event:
        case runtime.Facts(containers=facts):
            return facts
        case runtime.Changed(fact=fact):
            return (fact,)
        case _:
            return ()


async def _record(state: StateThread, fact: runtime.ContainerFact) -> None:
    exit_ = Exit(
        container_id=fact.container_id,
        exit_code=fact.exit_code,
        finished_at=fact.finished_at,
        oom_killed=fact.oom_killed,
    )
    try:
        if await state.record_exit(exit_):
            _LOG.info("container %s exited with %d", short(fact.container_id), fact.exit_code)
    except CrispError as error:  # the runtime reports it again when it or this process restarts
        _LOG.error("the exit of container %s is not recorded: %s", short(fact.container_id), error)
