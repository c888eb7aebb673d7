"""Attach: the socket of a container's monitor (conmon), and with a terminal the pipe that takes its size.

Each packet of output begins with a byte that names its stream. The session ends with the socket's end of file. The
monitor, and so the container, waits for a client that does not read, so such a client is disconnected after
`_STALL_SECONDS`.
"""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress

from kernel.contracts.stream import Role
from kernel.ids import short
from kernel.stream.sessions import end_status
from kernel.stream.sessions.descriptor_io import Sink, Source
from kernel.stream.sessions.remote_command import RemoteCommand
from kernel.stream.wires.channel import Channel

_LOG = logging.getLogger(__name__)
_STALL_SECONDS = 10.0
"""Seconds that a client may read nothing while output waits for it."""
_RESIZE_SECONDS = 0.5
"""Seconds after which a size that the monitor could not take is sent again."""
_MOST_PACKET = 8 << 10
"""Bytes of input in one packet to conmon, which reads no more of each."""
_STREAMS = {2: "stdout", 3: "stderr"}
"""The channel by the first byte of a packet."""


class AttachSession(RemoteCommand):
    """An attach."""

    _control = -1

    def _make_sink(self, channel: Channel) -> Sink:
        return Sink(channel, most=_MOST_PACKET)

    def _expected(self) -> tuple[frozenset[Role], ...]:
        return frozenset({Role.ATTACH}), frozenset({Role.ATTACH, Role.CONTROL})

    def _serve(self, given: dict[Role, int]) -> None:
        fd = given[Role.ATTACH]
        if self._stdin is not None:
            self._stdin.open(os.dup(fd), _end_input)
        self._sources["attach"] = Source(
            fd, self.service.buffer, self._room, self._on_packet, lambda: self._on_output_end("attach")
        )
        if (control := given.get(Role.CONTROL)) is not None:
            self._owned.append(control)
            self._control = control

    def _apply_size(self) -> None:
        if self._control < 0:
            return
        width, height = self._size
        try:
            os.write(self._control, b"1 %d %d\n" % (height, width))
        except BlockingIOError:  # The monitor is slow: of all sizes until then it gets the last one.
            self._limit("resize", _RESIZE_SECONDS, self._apply_size)
        except OSError as error:
            _LOG.debug("container %s: its terminal cannot be resized: %s", short(self.request.target), error.strerror)

    def _on_packet(self, data: memoryview) -> None:
        name = _STREAMS.get(data[0], "")
        if name in self._wanted and len(data) > 1:
            self._channels[name].send(data[1:])

    def _end_status(self) -> bytes:
        return end_status.success(plain=self.plain)

    # A client that does not read.

    def _room(self) -> int:
        """Return how many bytes may be read. A packet may be for any output, so all of them need room."""
        if self._has_room():
            return len(self.service.buffer)
        if "stalled" not in self._timers:
            self._limit("stalled", _STALL_SECONDS, self._on_stalled)
        return 0

    def _has_room(self) -> bool:
        outputs = [self._channels[name] for name in self._wanted - {"stdin"} if name in self._channels]
        return all(channel.room() > 0 for channel in outputs)

    def _on_room(self) -> None:
        if "stalled" in self._timers and self._has_room():
            self._stop("stalled")
        super()._on_room()

    def _on_stalled(self) -> None:
        _LOG.info("container %s: a client that does not read is let go", short(self.request.target))
        self._finish(
            end_status.failed("the client did not read, and the container does not wait for it", plain=self.plain)
        )


def _end_input(fd: int) -> None:
    """End the input. The monitor then closes the container's input, if that must be closed after its first client."""
    with socket.socket(fileno=fd) as end, suppress(OSError):  # the monitor has gone already
        end.shutdown(socket.SHUT_WR)
