"""What every session has: a client on a wire, a host that it tells of what it needs, and an end."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from kernel.contracts.stream import Dial, Ended, ExpectRequest, Opened, Passed
from kernel.stream.client.upgrade import Request
from kernel.stream.wires.carrier import Wire
from kernel.stream.wires.channel import Channel

STREAMS_SECONDS = 30.0
"""What a client has to make the streams of its session."""
DESCRIPTORS_SECONDS = 90.0
"""What the descriptors may take to come."""


class Host(Protocol):
    """The process, as a session sees it."""

    pieces: memoryview
    """What descriptors are read into, shared by all sessions."""

    def tell(self, event: Opened | Dial) -> None:
        """Tell the front what is waited for."""

    def ended(self, session: Session) -> None:
        """The session is over."""


class Session(ABC):
    """One session, from its client's upgrade to its end. `wire` is set before anything comes in."""

    wire: Wire

    def __init__(self, request: ExpectRequest, asked: Request, host: Host) -> None:
        self.request = request
        self.over = False
        self.host = host
        self.plain = asked.plain
        self._loop = asyncio.get_running_loop()
        self.active_at = self._loop.time()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # What the wire calls.

    @abstractmethod
    def opened(self, channel: Channel, headers: dict[str, str]) -> str:
        """The client wants a channel: empty where it is taken, else why not."""

    def active(self) -> None:
        """Bytes of the session went in or out."""
        self.active_at = self._loop.time()

    def lost(self) -> None:
        """The client has gone, or has broken the protocol."""
        self._end()

    # What the process calls.

    @abstractmethod
    def passed(self, message: Passed, fds: list[int]) -> bool:
        """Take descriptors; False where they are not waited for."""

    @abstractmethod
    def refused(self, connection: int, why: str) -> None:
        """What is waited for does not come."""

    @abstractmethod
    def waiting(self) -> tuple[Opened | Dial, ...]:
        """What is waited for."""

    def close(self) -> None:
        """End the session for a reason that the protocol has no word for."""
        if not self.over:
            self.wire.close()
            self._end()

    def ended_event(self) -> Ended:
        """For the front."""
        return Ended(session=self.request.session, kind=self.request.kind)

    # What sessions use.

    def _limit(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` after so many seconds, unless `_stop(name)` comes first."""
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
        self.host.ended(self)

    @abstractmethod
    def _release(self) -> None:
        """Close all descriptors."""
