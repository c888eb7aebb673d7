"""Bytes between descriptors and channels: a source reads, a sink writes. Neither ever blocks, nor holds much.

A source reads into a buffer that all sources share, and only as much as its channel has room for. Without room it
stops, the descriptor fills, and the process behind it waits. A sink writes received bytes at once. Bytes that the
descriptor does not take are kept and counted, and the channel stops its client from sending.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable

from kernel.stream.client.client_connection import PIECE
from kernel.stream.wires.channel import Channel

_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EIO})


class Source:
    """A reader of one descriptor, which it closes at its end."""

    def __init__(
        self,
        fd: int,
        buffer: memoryview,
        room: Callable[[], int],
        take: Callable[[memoryview], None],
        ended: Callable[[], None],
    ) -> None:
        """Prepare a reader. `room` returns how many bytes `take` may get now; `ended` is called at the end of file,
        after the close."""
        self._fd = fd
        self._buffer = buffer
        self._room = room
        self._take = take
        self._ended = ended
        self._draining = False
        self._reading = False
        self._loop = asyncio.get_running_loop()
        self.resume()

    def resume(self) -> None:
        """Read on if there is room again."""
        if self._fd >= 0 and not self._reading and self._room() > 0:
            self._loop.add_reader(self._fd, self._on_readable)
            self._reading = True
            if self._draining:
                self._loop.call_soon(self._read_now)

    def drain(self) -> None:
        """Read the bytes that are there and wait for no more, because the process that wrote them has ended."""
        self._draining = True
        self._read_now()

    def close(self) -> None:
        """Read no more, without a call of `ended`."""
        if self._fd >= 0:
            self._pause()
            os.close(self._fd)
            self._fd = -1

    def _read_now(self) -> None:
        if self._reading:
            self._on_readable()

    def _pause(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._fd)
            self._reading = False

    def _on_readable(self) -> None:
        room = min(self._room(), len(self._buffer))
        if room <= 0:
            self._pause()
            return
        try:
            size = os.readv(self._fd, [self._buffer[:room]])
        except BlockingIOError:
            size = 0 if self._draining else -1
        except OSError as error:
            if error.errno not in _GONE:
                raise
            size = 0
        if size > 0:
            self._take(self._buffer[:size])
            if self._draining and self._fd >= 0:
                self._loop.call_soon(self._read_now)
        elif size == 0:
            self.close()
            self._ended()


class Sink:
    """A writer of a channel's input to a descriptor, which may arrive later and which it closes."""

    def __init__(self, channel: Channel, *, most: int = PIECE) -> None:
        """Take over a channel. `most`: bytes that are written at once, if each write is a packet."""
        self._channel = channel
        self._most = most
        self._fd = -1
        self._finish: Callable[[int], None] = os.close
        self._kept = bytearray()
        self._written = 0
        """The number of bytes at the front of `_kept` that are written already."""
        self._writing = False
        self._finished = False
        self._broken = False
        self._loop = asyncio.get_running_loop()
        channel.on_data = self.write
        channel.on_end = self.finish

    def open(self, fd: int, finish: Callable[[int], None] = os.close) -> None:
        """Write to `fd` from now on; `finish` is called with it, and closes it, at the end of the input."""
        self._fd, self._finish = fd, finish
        self._flush()

    def write(self, data: memoryview) -> None:
        """Write a piece, and keep the bytes that the descriptor does not take."""
        if self._finished:
            self._channel.consumed(len(data))
            return
        if not self._kept and self._fd >= 0:
            while data and (written := self._try(data[: self._most])):
                self._channel.consumed(written)
                data = data[written:]
        if data:
            self._kept += data
            self._channel.set_backlog(len(self._kept) - self._written)
            self._watch()

    def finish(self) -> None:
        """End the descriptor's input once all is written, because no more bytes come."""
        self._finished = True
        self._flush()

    def close(self) -> None:
        """Write no more."""
        self._broken = self._finished = True
        self._forget(len(self._kept) - self._written)
        if self._fd >= 0:
            fd = self._release()
            os.close(fd)

    def _flush(self) -> None:
        while self._fd >= 0 and self._kept:
            with memoryview(self._kept) as whole, whole[self._written : self._written + self._most] as piece:
                written = self._try(piece)
            if not written:
                break
            self._forget(written)
        self._watch()
        if self._finished and not self._kept and self._fd >= 0:
            self._finish(self._release())

    def _try(self, data: memoryview) -> int:
        """Return how many bytes were written; all of them if the reader has gone."""
        if self._broken:
            return len(data)
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._broken = True
            return len(data)

    def _forget(self, size: int) -> None:
        if not size:
            return
        self._written += size
        if self._written == len(self._kept):
            self._kept.clear()
            self._written = 0
        elif self._written >= PIECE:
            del self._kept[: self._written]
            self._written = 0
        self._channel.consumed(size)
        self._channel.set_backlog(len(self._kept) - self._written)

    def _watch(self) -> None:
        wanted = bool(self._kept) and self._fd >= 0
        if wanted and not self._writing:
            self._loop.add_writer(self._fd, self._flush)
        elif self._writing and not wanted:
            self._loop.remove_writer(self._fd)
        self._writing = wanted

    def _release(self) -> int:
        fd = self._fd
        if self._writing:
            self._loop.remove_writer(fd)
            self._writing = False
        self._fd = -1
        return fd
