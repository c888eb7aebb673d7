"""The worker's side of the bus: a server for one contract, and the skeleton of a worker's process.

A service is any object with a coroutine per contract method, of the method's own name, and `close`. Its handlers
raise kernel.errors; anything else is logged with its traceback and answered as Internal. A frame that does not fit
is refused and logged with its sender: it never ends the process.
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
from kernel.bus.envelope import Answer, Ask, Body, Cancel, ToCaller, Told, body, failure, pack, unpack_for_worker
from kernel.config.sections import Config
from kernel.contracts.contract import HELLO, Contract, Hello, Message, Method
from kernel.errors import CrispError, DeadlineExceeded, Internal, InvalidInput, NotFound
from kernel.host.aio import Deadline, Tasks
from kernel.log import TRACE

_LOG = logging.getLogger(__name__)
_DRAIN_SECONDS = 4.0
_NO_DEADLINE_SECONDS = 10.0 * 365 * 86400


class Service(Protocol):
    """What a worker's entry point gives back."""

    async def close(self) -> None:
        """Let go of what the process holds; what it has made on the host stays."""


class Call:
    """One call being served."""

    def __init__(self, call: bytes, sender: bytes, method: Method[Message, Message], ask: Ask, send: _Send) -> None:
        self.id = call
        self.sender = sender
        """Where the answer goes: the connection that asked last."""
        self.method = method
        self.trace = ask.trace
        self.deadline = Deadline(ask.deadline_ns) if ask.deadline_ns else Deadline.after(_NO_DEADLINE_SECONDS)
        """The moment at which the caller gives up."""
        self._send = send
        self.task: asyncio.Task[None] | None = None

    async def progress(self, message: Message) -> None:
        """Tell the caller how far it is, or, in a watch, what happened. A caller that is gone ends the call."""
        if not self._send(self.sender, pack(Told(id=self.id, body=body(message)))) and self.method.watch:
            raise asyncio.CancelledError


_Send = Callable[[bytes, bytes], bool]
_Handler = Callable[[Message, Call], Awaitable[Message]]


class Server:
    """Serves one contract on one ROUTER socket. Make it inside a running loop."""

    def __init__(self, contract: Contract, service: object, address: str) -> None:
        self._contract = contract
        self._handlers = handlers(contract, service)
        self._bodies = {name: Body(method.request) for name, method in contract.methods.items()}
        self._running: dict[bytes, Call] = {}
        self._tasks = Tasks()
        self._started_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._draining = False
        self._socket: Endpoint = router(address, self._on_message)

    async def drain(self) -> None:
        """Take no more calls, and give those under way a few seconds; watches are not waited for."""
        self._draining = True
        waiting = [call.task for call in self._running.values() if call.task and not call.method.watch]
        if waiting:
            await asyncio.wait(waiting, timeout=_DRAIN_SECONDS)

    async def close(self) -> None:
        """Cancel what runs and close the socket; callers ask again elsewhere or later."""
        await self._tasks.close()
        self._socket.close()

    def _on_message(self, frames: list[bytes]) -> None:
        sender = frames[0]
        try:
            if len(frames) != 2:
                raise InvalidInput(f"it has {len(frames) - 1} frames, not one")
            message = unpack_for_worker(frames[1])
        except InvalidInput as error:
            _LOG.error("a message from %s is refused: %s", sender.hex(), error)
            return
        if isinstance(message, Cancel):
            call = self._running.get(message.id)
            if call is not None and call.task is not None:
                call.task.cancel()
        elif not self._draining:
            self._on_ask(sender, message)

    def _on_ask(self, sender: bytes, ask: Ask) -> None:
        if ask.id in self._running:
            self._running[ask.id].sender = sender  # the same ask again over a new connection: it joins
            return
        if ask.method == HELLO.name:
            hello = Hello(pid=os.getpid(), started_ns=self._started_ns)
            self._socket.send(sender, pack(Answer(id=ask.id, body=body(hello))))
            return
        method = self._contract.methods.get(ask.method)
        try:
            if method is None:
                raise NotFound(f"the {self._contract.worker} worker has no method {ask.method!r}")
            request = cast("Message", self._bodies[ask.method].decode(ask.body))
        except CrispError as error:
            _LOG.error("a call from %s of %s is refused: %s", sender.hex(), ask.method, error)
            self._socket.send(sender, pack(failure(ask.id, error)))
            return
        call = Call(ask.id, sender, method, ask, self._socket.send)
        self._running[ask.id] = call
        call.task = self._tasks.start(self._serve(call, request), f"{ask.method} {ask.id.hex()[:8]}")

    async def _serve(self, call: Call, request: Message) -> None:
        TRACE.set(call.trace)
        try:
            answer = await self._answer(call, request)
        finally:
            del self._running[call.id]
        if not self._socket.send(call.sender, pack(answer)):
            _LOG.debug("the caller of %s has gone", call.method.name)

    async def _answer(self, call: Call, request: Message) -> ToCaller:
        try:
            async with asyncio.timeout(max(call.deadline.remaining(), 0)):
                reply = await self._handlers[call.method.name](request, call)
            return Answer(id=call.id, body=body(reply))
        except CrispError as error:
            return failure(call.id, error)
        except TimeoutError:
            late = DeadlineExceeded(f"{self._contract.worker} worker, {call.method.name}: the deadline passed")
            return failure(call.id, late)
        except Exception as error:  # noqa: BLE001  # the boundary of the process: our own bug, said once
            _LOG.exception("%s failed", call.method.name)
            kind = f"{type(error).__name__}: {error}"
            return failure(call.id, Internal(f"{self._contract.worker} worker, {call.method.name}: {kind}"))


def handlers(contract: Contract, service: object) -> dict[str, _Handler]:
    """The service's handlers by method; Internal where handlers and contract do not agree exactly."""
    found = dict(inspect.getmembers(service, inspect.iscoroutinefunction))
    missing = contract.methods.keys() - found.keys()
    extra = {name for name in found if not name.startswith("_")} - contract.methods.keys() - {"close"}
    if missing or extra:
        raise Internal(
            f"the {contract.worker} service lacks {sorted(missing)} and has {sorted(extra)} beyond its contract"
        )
    return {name: found[name] for name in contract.methods}


def run(contract: Contract, create: Callable[[Config], Awaitable[Service]], config: Config) -> None:
    """A worker's whole life, from its entry point to SIGTERM. The process is confined already."""
    if sys.version_info < (3, 12):
        asyncio.get_event_loop_policy().set_child_watcher(asyncio.PidfdChildWatcher())
    asyncio.run(_live(contract, create, config))


async def _live(contract: Contract, create: Callable[[Config], Awaitable[Service]], config: Config) -> None:
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
