"""The worker's side of the bus: a server for one contract, and the skeleton of a worker's process.

A service is any object with a coroutine per method of the contract, of the method's own name, and `close`. Its
handlers raise `kernel.errors`; any other exception is logged with its traceback and answered as Internal. A message
that does not fit is refused and logged with its sender: it never ends the process.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

from kernel.bus.endpoint import Endpoint, router
from kernel.bus.envelope import (
    Answer,
    Body,
    Cancel,
    Frames,
    Progress,
    Request,
    pack,
    pack_failure,
    unpack_for_worker,
)
from kernel.config.sections import Config
from kernel.contracts.definition import HELLO, Contract, Hello, Message, Method
from kernel.errors import CrispError, DeadlineExceeded, Internal, InvalidInput, NotFound
from kernel.host.aio import FAILURES, Deadline, Spawned, Tasks, report_lost_errors, wait_until_ended
from kernel.log import TRACE

_LOG = logging.getLogger(__name__)
_DRAIN_SECONDS = 4.0
"""Seconds that calls under way may take once the worker is being ended."""
_NO_DEADLINE_SECONDS = 10.0 * 365 * 86400


class Service(Protocol):
    """The object that a worker's entry point returns. Beside `close` it has a coroutine per method of its contract."""

    async def close(self) -> None:
        """Release what the process holds; what it has made on the host stays."""


class Call:
    """One call being served."""

    def __init__(self, header: Request, sender: bytes, method: Method[Message, Message], send: _Send) -> None:
        self.id = header.id
        self.sender = sender
        """Routing id of the connection that gets the answer: the last one that sent this request."""
        self.method = method
        self.trace = header.trace
        self.deadline = Deadline(header.deadline_ns) if header.deadline_ns else Deadline.after(_NO_DEADLINE_SECONDS)
        """The moment at which the caller gives up."""
        self._send = send
        self.task: Spawned | None = None

    async def progress(self, message: Message) -> None:
        """Send the caller a progress message or, in a watch, an event; a watch ends if its caller has gone."""
        if not self._send(self.sender, *pack(Progress(id=self.id), message)) and self.method.watch:
            raise asyncio.CancelledError


class _Send(Protocol):
    """`Endpoint.send` of a worker's socket: the routing id of the receiver, then a message's frames."""

    def __call__(self, *frames: bytes) -> bool: ...


_Handler = Callable[[Message, Call], Awaitable[Message]]


class Server:
    """A server of one contract on one ROUTER socket. Make it inside a running loop, and close it there."""

    def __init__(self, contract: Contract, service: object, address: str) -> None:
        self._contract = contract
        self._handlers = handlers(contract, service)
        self._bodies = {name: Body(method.request) for name, method in contract.methods.items()}
        self._bodies[HELLO.name] = Body(HELLO.request)
        self._running: dict[bytes, Call] = {}
        self._tasks = Tasks()
        self._started_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._draining = False
        self._socket: Endpoint = router(address, self._on_message)

    async def drain(self) -> None:
        """Accept no more calls, and give those under way four seconds; watches are not waited for."""
        self._draining = True
        waiting = [call.task for call in self._running.values() if call.task and not call.method.watch]
        await wait_until_ended(waiting, _DRAIN_SECONDS)

    async def close(self) -> None:
        """Cancel what runs and close the socket; callers send their calls again to the next worker."""
        await self._tasks.close()
        self._socket.close()

    def _on_message(self, frames: list[bytes]) -> None:
        sender, *message = frames
        try:
            header, body = unpack_for_worker(message)
        except InvalidInput as error:
            _LOG.error("a message from %s is refused: %s", sender.hex(), error)
            return
        if isinstance(header, Cancel):
            call = self._running.get(header.id)
            if call is not None and call.task is not None:
                call.task.cancel()
        elif not self._draining:
            self._on_request(sender, header, body)

    def _on_request(self, sender: bytes, header: Request, body: bytes) -> None:
        if header.id in self._running:
            self._running[header.id].sender = sender  # sent again over a new connection: it joins the first
            return
        try:
            if header.method not in self._bodies:
                raise NotFound(f"the {self._contract.worker} worker has no method {header.method!r}")
            request = cast("Message", self._bodies[header.method].decode(body))
        except CrispError as error:
            _LOG.error("a call from %s of %s is refused: %s", sender.hex(), header.method, error)
            self._socket.send(sender, *pack_failure(header.id, error))
            return
        if header.method == HELLO.name:
            hello = Hello(pid=os.getpid(), started_ns=self._started_ns, errors=FAILURES.errors, bugs=FAILURES.bugs)
            self._socket.send(sender, *pack(Answer(id=header.id), hello))
            return
        call = Call(header, sender, self._contract.methods[header.method], self._socket.send)
        self._running[call.id] = call
        call.task = self._tasks.spawn(self._serve(call, request), f"{header.method} {call.id.hex()[:8]}")

    async def _serve(self, call: Call, request: Message) -> None:
        TRACE.set(call.trace)
        try:
            answer = await self._answer(call, request)
        finally:
            del self._running[call.id]
        if not self._socket.send(call.sender, *answer):
            _LOG.debug("the caller of %s has gone", call.method.name)

    async def _answer(self, call: Call, request: Message) -> Frames:
        try:
            async with asyncio.timeout(max(call.deadline.remaining(), 0)):
                reply = await self._handlers[call.method.name](request, call)
            return pack(Answer(id=call.id), reply)
        except CrispError as error:
            return pack_failure(call.id, error)
        except TimeoutError:
            late = DeadlineExceeded(f"{self._contract.worker} worker, {call.method.name}: the deadline passed")
            return pack_failure(call.id, late)
        except Exception as error:  # noqa: BLE001  # the boundary of the process: our own bug, logged once
            _LOG.exception("%s failed", call.method.name)
            kind = f"{type(error).__name__}: {error}"
            return pack_failure(call.id, Internal(f"{self._contract.worker} worker, {call.method.name}: {kind}"))


def handlers(contract: Contract, service: object) -> dict[str, _Handler]:
    """Return the service's handlers by method; raises Internal if handlers and contract do not agree exactly."""
    found = dict(inspect.getmembers(service, inspect.iscoroutinefunction))
    missing = contract.methods.keys() - found.keys()
    extra = {name for name in found if not name.startswith("_")} - contract.methods.keys() - {"close"}
    if missing or extra:
        raise Internal(
            f"the {contract.worker} service lacks {sorted(missing)} and has {sorted(extra)} beyond its contract"
        )
    return {name: found[name] for name in contract.methods}


def run(contract: Contract, create: Callable[[Config], Awaitable[Service]], config: Config) -> None:
    """Run a worker's process from its entry point to SIGTERM. The process is confined already."""
    if sys.version_info < (3, 12):
        asyncio.get_event_loop_policy().set_child_watcher(asyncio.PidfdChildWatcher())
    asyncio.run(_live(contract, create, config))


async def _live(contract: Contract, create: Callable[[Config], Awaitable[Service]], config: Config) -> None:
    report_lost_errors()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: _LOG.info("SIGHUP: nothing to read again"))
    service = await create(config)
    server = Server(contract, service, config.paths.bus(contract.worker))
    _LOG.info("serving")
    await stopping.wait()
    await server.drain()
    await server.close()
    await service.close()
