"""The caller's side of the bus, for the front, the supervisor and the command line. No service imports it.

A call whose worker dies is sent again as soon as the worker is back, until the deadline: the caller sees a delay.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from typing import TypeVar, cast

import msgspec

from kernel.bus.calls import Calls
from kernel.bus.endpoint import dealer
from kernel.bus.envelope import (
    Body,
    Cancel,
    Failed,
    Frames,
    Progress,
    Request,
    ToCaller,
    error_of,
    pack,
    unpack_for_caller,
)
from kernel.contracts.definition import HELLO, Contract, Message, Method
from kernel.errors import CrispError, DeadlineExceeded, Internal, InvalidInput, Unavailable
from kernel.host.aio import Deadline
from kernel.log import TRACE

_LOG = logging.getLogger(__name__)
_Request = TypeVar("_Request", bound=Message)
_Reply = TypeVar("_Reply", bound=Message)


class _Open:
    """An open call: what to send, and who waits for its end."""

    __slots__ = ("frames", "future", "id", "method", "on_progress")

    def __init__(
        self, call: bytes, method: Method[Message, Message], frames: Frames, on_progress: Callable[[Message], None]
    ) -> None:
        self.id = call
        self.method = method
        self.frames = frames
        self.on_progress = on_progress
        self.future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()


class Client:
    """Calls to one worker. Make it inside a running loop, and close it there."""

    def __init__(self, contract: Contract, address: str) -> None:
        self.worker = contract.worker
        self._calls: Calls[_Open] = Calls()
        self._replies: dict[str, Body] = {}
        self._events: dict[str, Body] = {}
        self._replies[HELLO.name] = Body(HELLO.reply)
        for name, method in contract.methods.items():
            self._replies[name] = Body(method.reply)
            if method.progress is not None:
                self._events[name] = Body(method.progress)
        self._socket, self._monitor = dealer(address, self._on_message, self._on_connected, self._on_lost)

    async def call(
        self,
        method: Method[_Request, _Reply],
        request: _Request,
        *,
        deadline: Deadline | None = None,
        on_progress: Callable[[Message], None] | None = None,
    ) -> _Reply:
        """Return the worker's reply, or raise the error that it reports.

        Waits until `deadline` or for the method's own, whichever is earlier, and then raises DeadlineExceeded. Raises
        Unavailable if the worker dies during a call that may not be repeated. `on_progress` is called with each
        progress message.
        """
        until = deadline.earlier(method.deadline) if deadline else Deadline.after(method.deadline)
        opened = self._open(cast("Method[Message, Message]", method), request, until.at_ns, on_progress or _ignore)
        try:
            async with asyncio.timeout(max(until.remaining(), 0)):
                return cast("_Reply", await opened.future)
        except TimeoutError as error:
            why = "it did not answer in time" if self._calls.up else "it is down"
            raise DeadlineExceeded(f"{self.worker} worker, {method.name}: {why}") from error
        finally:
            self._abandon(opened)

    async def watch(self, method: Method[_Request, _Reply], request: _Request) -> AsyncIterator[Message]:
        """Yield events without end, until the caller stops; raises the error that the worker reports.

        After the worker's death the watch starts again: the next event is the whole state.
        """
        events: asyncio.Queue[Message | None] = asyncio.Queue()
        opened = self._open(cast("Method[Message, Message]", method), request, 0, events.put_nowait)
        opened.future.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            opened.future.result()
        finally:
            self._abandon(opened)

    async def close(self) -> None:
        """Fail the open calls with Unavailable and close the socket."""
        self._socket.close()
        self._monitor.close()
        for opened in [*self._calls.lost(), *self._calls.connected()]:
            if not opened.future.done():
                opened.future.set_exception(Unavailable(f"{self.worker} worker: this process is shutting down"))

    def _open(
        self,
        method: Method[Message, Message],
        request: Message,
        deadline_ns: int,
        on_progress: Callable[[Message], None],
    ) -> _Open:
        call = os.urandom(16)
        header = Request(id=call, method=method.name, deadline_ns=deadline_ns, trace=TRACE.get())
        opened = _Open(call, method, pack(header, request), on_progress)
        if self._calls.add(call, opened, repeat=method.repeat):
            self._send(opened)
        return opened

    def _send(self, opened: _Open) -> None:
        if not self._socket.send(*opened.frames):
            self._calls.unsent(opened.id)

    def _abandon(self, opened: _Open) -> None:
        if self._calls.settle(opened.id) is not None and self._calls.up:
            self._socket.send(*pack(Cancel(id=opened.id)))
        if opened.future.done() and not opened.future.cancelled():
            opened.future.exception()  # marks it as retrieved, because the caller no longer waits for it
        opened.future.cancel()

    def _on_connected(self) -> None:
        for opened in self._calls.connected():
            self._send(opened)

    def _on_lost(self) -> None:
        for opened in self._calls.lost():
            if not opened.future.done():
                opened.future.set_exception(
                    Unavailable(f"{self.worker} worker ended during {opened.method.name}, which is not repeated")
                )

    def _on_message(self, frames: list[bytes]) -> None:
        try:
            self._on_reply(*unpack_for_caller(frames))
        except InvalidInput as error:
            _LOG.error("a message of the %s worker is refused: %s", self.worker, error)

    def _on_reply(self, header: ToCaller, body: bytes) -> None:
        opened = self._calls.find(header.id)
        if opened is None:
            return  # it was cancelled or answered already
        name = opened.method.name
        if isinstance(header, Progress):
            if name in self._events:
                opened.on_progress(cast("Message", self._events[name].decode(body)))
            return
        self._calls.settle(header.id)
        try:
            outcome = (
                error_of(body) if isinstance(header, Failed) else cast("Message", self._replies[name].decode(body))
            )
        except InvalidInput as error:
            if not opened.future.done():
                opened.future.set_exception(Internal(f"{self.worker} worker, {name}: its answer is refused: {error}"))
            raise
        if opened.future.done():
            return
        if isinstance(outcome, CrispError):
            opened.future.set_exception(outcome)
        else:
            opened.future.set_result(outcome)


def _ignore(_: msgspec.Struct) -> None:
    """Drop a progress message: the caller gave no `on_progress`."""
