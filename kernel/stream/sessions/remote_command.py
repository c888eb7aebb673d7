"""Exec and attach: the channels error, stdin, stdout, stderr and resize, and a command's descriptors.

1. The client makes its channels; what comes in before the descriptors do is kept, as far as a channel keeps anything.
2. The front is told, and descriptors come by `passed`; or words by `refused`.
3. Bytes flow. A command is over with its exit code: what it has left in its pipes is still delivered, what its children
   write later is not waited for. What a container is attached by is over with its end of file.
4. The client is told how it ended. A client that goes earlier takes the command with it: its descriptors are closed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import struct
import termios
from collections.abc import Callable
from contextlib import suppress

from kernel.contracts.stream import Dial, ExpectRequest, Kind, Opened, Passed, Role
from kernel.ids import short
from kernel.stream.client.upgrade import Request
from kernel.stream.session import DESCRIPTORS_SECONDS, STREAMS_SECONDS, Host, Session
from kernel.stream.sessions import end_status
from kernel.stream.sessions.pump import Sink, Source
from kernel.stream.sessions.resize import Sizes
from kernel.stream.wires.channel import Channel

_LOG = logging.getLogger(__name__)
_DRAIN_SECONDS = 0.5
"""What output may take to show after its command's exit code."""
_STALL_SECONDS = 10.0
"""What the client of an attach may take to read on: the container's monitor, and so the container, waits for it."""
_ATTACH_PACKET = 8 << 10
"""Bytes of input in one packet to conmon, which reads no more of each."""
_STDOUT, _STDERR = 2, 3
_MOST_STATUS = 16
CHANNELS = ("stdin", "stdout", "stderr", "error", "resize")
"""In the order of their numbers in a WebSocket."""


class RemoteCommand(Session):
    """An exec or an attach."""

    def __init__(self, request: ExpectRequest, asked: Request, host: Host) -> None:
        super().__init__(request, asked, host)
        flags = {"stdin": request.stdin, "stdout": request.stdout, "stderr": request.stderr and not request.tty}
        self._wanted = {name for name, wanted in flags.items() if wanted}
        self._missing = {"error", *self._wanted}
        self._greets = asked.websocket
        if request.tty and asked.resizes and not asked.websocket:
            self._missing.add("resize")
        self._channels: dict[str, Channel] = {}
        self._stdin: Sink | None = None
        self._sizes = Sizes()
        self._size = (0, 0)
        self._resize: Callable[[int, int], None] | None = None
        self._sources: dict[str, Source] = {}
        self._owned: list[int] = []
        """Descriptors beside those of sources and sinks."""
        self._said = b""
        self._exit: bytes | None = None
        """What the status pipe has said in the end."""
        self._served = False
        self._limit("streams", STREAMS_SECONDS, self.close)

    # Channels.

    def opened(self, channel: Channel, headers: dict[str, str]) -> str:
        name = headers.get("streamtype", "")
        if self.over:
            return "the session is over"
        if name not in CHANNELS or name in self._channels:
            return f"stream type {name[:80]!a} is unknown, or there is one already"
        self._channels[name] = channel
        if name == "stdin" and "stdin" in self._wanted:
            attached = self.request.kind is Kind.ATTACH
            self._stdin = Sink(channel, most=_ATTACH_PACKET) if attached else Sink(channel)
            channel.on_reset = self._stdin.finish
        elif name == "resize":
            channel.on_data = self._on_sizes
        elif name in ("stdout", "stderr"):
            channel.on_room = lambda: self._on_room(name)
            channel.on_reset = lambda: self._on_output_unwanted(name)
        if name in self._missing:
            self._missing.remove(name)
            if not self._missing:
                self._begin()
        return ""

    def _begin(self) -> None:
        """All channels are there."""
        self._stop("streams")
        if self._greets:  # an empty message on the first channel that the client reads: the connection stands
            name = next((name for name in ("stdout", "stderr") if name in self._wanted), "error")
            self._channels[name].send(memoryview(b""))
        self._limit("descriptors", DESCRIPTORS_SECONDS, self._on_nothing)
        self.host.tell(self._opened())

    def _opened(self) -> Opened:
        width, height = self._size
        given = self.request
        return Opened(session=given.session, kind=given.kind, target=given.target, width=width, height=height)

    def waiting(self) -> tuple[Opened | Dial, ...]:
        return () if self._missing or self._served else (self._opened(),)

    def _on_nothing(self) -> None:
        self.refused(0, "nothing came of it in time")

    def _on_sizes(self, data: memoryview) -> None:
        self._channels["resize"].consumed(len(data))
        size = self._sizes.feed(data)
        if size is not None:
            self._size = size
            if self._resize is not None:
                self._resize(*size)

    def _on_room(self, name: str) -> None:
        if "stalled" in self._timers and self._has_room():
            self._stop("stalled")
        for source in self._sources.values():
            source.resume()

    def _on_output_unwanted(self, name: str) -> None:
        """The client has given up an output: the command is told by its next write."""
        if (source := self._sources.pop(name, None)) is not None:
            source.close()
            self._check()

    # Descriptors.

    def passed(self, message: Passed, fds: list[int]) -> bool:
        if self.over or self._served or self._missing:
            return False
        given = dict(zip(message.roles, fds, strict=True))
        kinds = frozenset(given)
        if len(given) != len(fds) or kinds not in self._expected():
            _LOG.error("session of %s: roles %s do not fit", short(self.request.target), [role.value for role in kinds])
            return False
        self._stop("descriptors")
        self._served = True
        for fd in fds:
            os.set_blocking(fd, False)
        if Role.ATTACH in given:
            self._attach(given)
        else:
            self._serve(given)
        return True

    def _expected(self) -> tuple[frozenset[Role], ...]:
        if self.request.kind is Kind.ATTACH:
            return frozenset({Role.ATTACH}), frozenset({Role.ATTACH, Role.CONTROL})
        if self.request.tty:
            return (frozenset({Role.TERMINAL, Role.STATUS}),)
        return (frozenset({Role(name) for name in self._wanted} | {Role.STATUS}),)

    def _serve(self, given: dict[Role, int]) -> None:
        """A command's pipes, or its terminal."""
        if (terminal := given.get(Role.TERMINAL)) is not None:
            self._resize = self._resize_terminal(terminal)
            self._source("stdout", os.dup(terminal))
            if self._stdin is not None:
                self._stdin.open(os.dup(terminal))
            self._owned.append(terminal)
        if self._stdin is not None and Role.STDIN in given:
            self._stdin.open(given[Role.STDIN])
        for role in (Role.STDOUT, Role.STDERR):
            if role in given:
                self._source(role.value, given[role])
        self._sources["status"] = Source(
            given[Role.STATUS], self.host.pieces, lambda: _MOST_STATUS, self._on_said, self._on_status
        )
        if self._resize is not None and self._size != (0, 0):
            self._resize(*self._size)

    def _source(self, name: str, fd: int) -> None:
        channel = self._channels.get(name)
        if channel is None:
            os.close(fd)
            return
        self._sources[name] = Source(
            fd, self.host.pieces, channel.room, channel.send, lambda: self._on_output_end(name)
        )

    def _attach(self, given: dict[Role, int]) -> None:
        """The socket of a container's monitor, and with a terminal the pipe that takes its size."""
        fd = given[Role.ATTACH]
        if self._stdin is not None:
            self._stdin.open(os.dup(fd), _end_input)
        self._sources["attach"] = Source(
            fd, self.host.pieces, self._attach_room, self._on_packet, lambda: self._on_output_end("attach")
        )
        if (control := given.get(Role.CONTROL)) is not None:
            self._owned.append(control)
            self._resize = self._resize_container(control)
            if self._size != (0, 0):
                self._resize(*self._size)

    def _attach_room(self) -> int:
        if self._has_room():
            return len(self.host.pieces)
        if "stalled" not in self._timers:
            self._limit("stalled", _STALL_SECONDS, self._on_stalled)
        return 0

    def _has_room(self) -> bool:
        outputs = [self._channels[name] for name in self._wanted - {"stdin"} if name in self._channels]
        return all(channel.room() > 0 for channel in outputs)

    def _on_stalled(self) -> None:
        """Its client keeps the container waiting."""
        _LOG.info("a client of container %s does not read: it is let go", short(self.request.target))
        self._finish(
            end_status.failed("the client did not read, and the container does not wait for it", plain=self.plain)
        )

    def _on_packet(self, data: memoryview) -> None:
        name = {_STDOUT: "stdout", _STDERR: "stderr"}.get(data[0], "")
        if name in self._wanted and len(data) > 1:
            self._channels[name].send(data[1:])

    def _resize_terminal(self, terminal: int) -> Callable[[int, int], None]:
        def resize(width: int, height: int) -> None:
            if self.over:
                return
            with suppress(OSError):  # the command has ended meanwhile
                fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

        return resize

    def _resize_container(self, control: int) -> Callable[[int, int], None]:
        def resize(width: int, height: int) -> None:
            if self.over:
                return
            try:
                os.write(control, b"1 %d %d\n" % (height, width))
            except BlockingIOError:  # the monitor is slow: of all sizes till then it gets the last one
                self._limit("resize", _DRAIN_SECONDS, lambda: resize(*self._size))
            except OSError as error:
                _LOG.debug("a container's terminal cannot be resized: %s", error.strerror)

        return resize

    # The end.

    def _on_output_end(self, name: str) -> None:
        self._sources.pop(name, None)
        self._check()

    def _on_said(self, data: memoryview) -> None:
        self._said = (self._said + data)[:_MOST_STATUS]
        if b"\n" in self._said:  # children of the command may hold the pipe open
            self._on_status()

    def _on_status(self) -> None:
        """The command has ended, or whoever watched it."""
        self._sources.pop("status").close()
        self._exit = self._said
        if self._sources:
            self._limit("drain", _DRAIN_SECONDS, self._drain)
        self._check()

    def _drain(self) -> None:
        for source in list(self._sources.values()):
            source.drain()

    def _check(self) -> None:
        """End the session once there is nothing more to come."""
        if self.over or not self._served or self._sources:
            return
        if self.request.kind is Kind.ATTACH:
            self._finish(end_status.success(plain=self.plain))
        elif self._exit is not None:
            code = self._exit.strip()
            if code.isdigit():
                self._finish(end_status.ended(int(code), plain=self.plain))
            else:
                self._finish(end_status.failed("the command was killed, and has no exit code", plain=self.plain))

    def refused(self, connection: int, why: str) -> None:
        if not self._served:
            self._finish(end_status.failed(why, plain=self.plain))

    def _finish(self, words: bytes) -> None:
        if self.over:
            return
        for name in ("stdout", "stderr"):
            if name in self._channels:
                self._channels[name].finish()
        if (error := self._channels.get("error")) is not None:
            if words:
                error.send(memoryview(words))
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


def _end_input(fd: int) -> None:
    """The monitor closes the container's input where it is to be closed after its first client."""
    with socket.socket(fileno=fd) as end, suppress(OSError):  # it has gone already
        end.shutdown(socket.SHUT_WR)
