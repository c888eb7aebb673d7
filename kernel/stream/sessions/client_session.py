"""The base of every session: a client on a wire, the stream service to which it reports, deadlines, and an end."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from kernel.contracts.stream import Dial, Ended, ExpectRequest, Opened, Passed
from kernel.stream.client.upgrade import UpgradeRequest
from kernel.stream.wires.carrier import Wire
from kernel.stream.wires.channel import Channel

STREAMS_SECONDS = 30.0
"""Seconds that a client may take to make the streams of its session."""
DESCRIPTORS_SECONDS = 90.0
"""Seconds that the descriptors may take to arrive."""


class Service(Protocol):
    """The part of the stream service that a session uses."""

    buffer: memoryview
    """The buffer into which descriptors are read. All sessions share it."""

    def report(self, event: Opened | Dial) -> None:
        """Send to the front what a session waits for."""

    def ended(self, session: ClientSession) -> None:
        """Forget a session that is over, and report its end."""


class ClientSession(ABC):
    """One session, from its client's upgrade to its end. `wire` is set before anything comes in."""

    wire: Wire

    def __init__(self, request: ExpectRequest, http_request: UpgradeRequest, service: Service) -> None:
        self.request = request
        self.over = False
        self.service = service
        self.plain = http_request.plain
        self._loop = asyncio.get_running_loop()
        self.active_at = self._loop.time()
        """When bytes last went in or out, in seconds of the loop's clock."""
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # Called by the wire.

    @abstractmethod
    def opened(self, channel: Channel, headers: dict[str, str]) -> str:
        """Accept a channel that the client opens. Returns the reason if it is refused, else an empty string."""

    def active(self) -> None:
        """Note that bytes of the session went in or out."""
        self.active_at = self._loop.time()

    def lost(self) -> None:
        """End the session: the client has gone, or has broken the protocol."""
        self._end()

    # Called by the service.

    @abstractmethod
    def passed(self, message: Passed, fds: list[int]) -> bool:
        """Take descriptors. Returns False, and takes none, if the session does not wait for them."""

    @abstractmethod
    def refused(self, connection: int, reason: str) -> None:
        """End what waits for descriptors that will not come: the session, or one connection."""

    @abstractmethod
    def pending(self) -> tuple[Opened | Dial, ...]:
        """Return the things that the session waits for."""

    def close(self) -> None:
        """End the session for a reason that the protocol cannot express."""
        if not self.over:
            self.wire.close()
            self._end()

    def ended_event(self) -> Ended:
        """Return the event by which the front learns that the session has ended."""
        return Ended(session=self.request.session, kind=self.request.kind)

    # Used by the kinds of sessions.

    def _limit(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` after `seconds`, unless `_stop(name)` or the session's end comes first."""
        self._stop(name)
        self._timers[name] = self._loop.call_later(seconds, act)

    def _stop(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()

    def _end(self) -> None:
        if self.over:
            return
        self.over = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._release()
        self.service.ended(self)

    @abstractmethod
    def _release(self) -> None:
        """Close all descriptors."""
