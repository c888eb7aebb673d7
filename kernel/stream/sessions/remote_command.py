"""The common part of exec and attach: channels (error, stdin, stdout, stderr, resize) and the descriptors behind them.

1. The client makes its channels. Bytes that arrive before the descriptors are kept, within each channel's bound.
2. The front gets an event, and descriptors arrive by `passed`, or the reason of a failure by `refused`.
3. Bytes flow until the session has ended, each kind by its own rule: `_end_status`.
4. The client gets a status on the error channel. A client that goes earlier ends the session: its descriptors are
   closed.
"""

from __future__ import annotations

import logging
import os
from abc import abstractmethod

from kernel.contracts.stream import Dial, ExpectRequest, Opened, Passed, Role
from kernel.ids import short
from kernel.stream.client.upgrade import UpgradeRequest
from kernel.stream.sessions import end_status
from kernel.stream.sessions.client_session import DESCRIPTORS_SECONDS, STREAMS_SECONDS, ClientSession, Service
from kernel.stream.sessions.descriptor_io import Sink, Source
from kernel.stream.sessions.resize import Sizes
from kernel.stream.wires.channel import Channel

_LOG = logging.getLogger(__name__)
CHANNELS = ("stdin", "stdout", "stderr", "error", "resize")
"""The channels in the order of their numbers in a WebSocket."""


class RemoteCommand(ClientSession):
    """An exec or an attach."""

    def __init__(self, request: ExpectRequest, http_request: UpgradeRequest, service: Service) -> None:
        super().__init__(request, http_request, service)
        flags = {"stdin": request.stdin, "stdout": request.stdout, "stderr": request.stderr and not request.tty}
        self._wanted = {name for name, wanted in flags.items() if wanted}
        self._missing = {"error", *self._wanted}
        self._greets = http_request.websocket
        if request.tty and http_request.resizes and not http_request.websocket:
            self._missing.add("resize")
        self._channels: dict[str, Channel] = {}
        self._stdin: Sink | None = None
        self._sizes = Sizes()
        self._size = (0, 0)
        """The terminal's last width and height from the client; zeros before the first."""
        self._sources: dict[str, Source] = {}
        self._owned: list[int] = []
        """Descriptors other than those of sources and sinks."""
        self._served = False
        """Whether the descriptors have arrived."""
        self._limit("streams", STREAMS_SECONDS, self.close)

    # The parts that each kind of session defines.

    @abstractmethod
    def _expected(self) -> tuple[frozenset[Role], ...]:
        """Return the sets of roles that descriptors may have."""

    @abstractmethod
    def _serve(self, given: dict[Role, int]) -> None:
        """Join descriptors, which do not block, to the channels."""

    @abstractmethod
    def _apply_size(self) -> None:
        """Give the client's size to the terminal, if there is one."""

    @abstractmethod
    def _end_status(self) -> bytes | None:
        """Return the client's status, now that nothing more can be read; None if the end is not known yet."""

    def _make_sink(self, channel: Channel) -> Sink:
        return Sink(channel)

    # Channels.

    def opened(self, channel: Channel, headers: dict[str, str]) -> str:
        name = headers.get("streamtype", "")
        if self.over:
            return "the session is over"
        if name not in CHANNELS or name in self._channels:
            return f"stream type {name[:80]!a} is unknown, or there is one already"
        self._channels[name] = channel
        if name == "stdin" and "stdin" in self._wanted:
            self._stdin = self._make_sink(channel)
            channel.on_reset = self._stdin.finish
        elif name == "resize":
            channel.on_data = self._on_sizes
        elif name in ("stdout", "stderr"):
            channel.on_room = self._on_room
            channel.on_reset = lambda: self._on_output_unwanted(name)
        if name in self._missing:
            self._missing.remove(name)
            if not self._missing:
                self._begin()
        return ""

    def _begin(self) -> None:
        """Request the descriptors: all channels are there."""
        self._stop("streams")
        if self._greets:  # an empty message on the first channel that the client reads shows that the connection stands
            name = next((name for name in ("stdout", "stderr") if name in self._wanted), "error")
            self._channels[name].send(memoryview(b""))
        self._limit("descriptors", DESCRIPTORS_SECONDS, lambda: self.refused(0, "nothing came of it in time"))
        self.service.report(self._opened_event())

    def _opened_event(self) -> Opened:
        width, height = self._size
        given = self.request
        return Opened(session=given.session, kind=given.kind, target=given.target, width=width, height=height)

    def pending(self) -> tuple[Opened | Dial, ...]:
        return () if self._missing or self._served else (self._opened_event(),)

    def _on_sizes(self, data: memoryview) -> None:
        self._channels["resize"].consumed(len(data))
        size = self._sizes.feed(data)
        if size is not None:
            self._size = size
            if self._served and not self.over:
                self._apply_size()

    def _on_room(self) -> None:
        for source in self._sources.values():
            source.resume()

    def _on_output_unwanted(self, name: str) -> None:
        """Close an output that the client has abandoned: the command notices it at its next write."""
        if (source := self._sources.pop(name, None)) is not None:
            source.close()
            self._check()

    # Descriptors.

    def passed(self, message: Passed, fds: list[int]) -> bool:
        if self.over or self._served or self._missing:
            return False
        given = dict(zip(message.roles, fds, strict=True))
        roles = frozenset(given)
        if len(given) != len(fds) or roles not in self._expected():
            _LOG.error("session of %s: roles %s do not fit", short(self.request.target), [role.value for role in roles])
            return False
        self._stop("descriptors")
        self._served = True
        for fd in fds:
            os.set_blocking(fd, False)
        self._serve(given)
        if self._size != (0, 0):
            self._apply_size()
        return True

    # The end.

    def _on_output_end(self, name: str) -> None:
        self._sources.pop(name, None)
        self._check()

    def _check(self) -> None:
        """End the session if nothing more can arrive."""
        if self.over or not self._served or self._sources:
            return
        status = self._end_status()
        if status is not None:
            self._finish(status)

    def refused(self, connection: int, reason: str) -> None:
        if not self._served:
            self._finish(end_status.failed(reason, plain=self.plain))

    def _finish(self, status: bytes) -> None:
        """Send the status, after all output, and end."""
        if self.over:
            return
        for name in ("stdout", "stderr"):
            if name in self._channels:
                self._channels[name].finish()
        if (error := self._channels.get("error")) is not None:
            if status:
                error.send(memoryview(status))
            error.finish()
        self.wire.close()
        self._end()

    def _release(self) -> None:
        for source in self._sources.values():
            source.close()
        self._sources.clear()
        if self._stdin is not None:
            self._stdin.close()
        for fd in self._owned:
            os.close(fd)
        self._owned.clear()
