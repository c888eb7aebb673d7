"""A ZeroMQ socket on the event loop: a callback per message, sends that never block. The only importer of zmq.

ZeroMQ's descriptor signals by edges: after every wake and every send the socket is read until it is empty. On a
worker's socket the sender's routing id precedes the frames of a message.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import zmq
from zmq.utils.monitor import parse_monitor_message

from kernel.bus.envelope import FRAMES, MAX_FRAME

_EVENTS, _READABLE, _HAS_MORE = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.RCVMORE)
_NOBLOCK, _MORE = int(zmq.NOBLOCK), int(zmq.SNDMORE)
_RECONNECT_MS = 5
_RECONNECT_MAX_MS = 40
"""Milliseconds between attempts to reach a worker that is down: the first wait, and the longest."""
_KEPT_FRAMES = 1 + FRAMES + 1
"""Frames of a received message that are handed on: the routing id, those of a message, and one that shows excess."""


class Endpoint:
    """One socket. Make it inside a running loop, and close it there."""

    def __init__(self, socket: zmq.Socket[bytes], on_message: Callable[[list[bytes]], None]) -> None:
        self._socket = socket
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._fd = int(socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._fd, self._drain)
        self._loop.call_soon(self._drain)
        self._closed = False

    def _readable(self) -> bool:
        return not self._closed and bool(self._socket.getsockopt(_EVENTS) & _READABLE)  # type: ignore[operator]

    def _drain(self) -> None:
        while self._readable():
            try:
                frames = self._receive()
            except zmq.Again:
                return
            try:
                self._on_message(frames)
            except BaseException:  # a bug, which the loop reports; the messages behind this one are read all the same
                self._loop.call_soon(self._drain)
                raise

    def _receive(self) -> list[bytes]:
        """Read one message; frames beyond the most that a message has are read and dropped."""
        frames = [self._socket.recv(_NOBLOCK)]
        while self._socket.getsockopt(_HAS_MORE):
            frame = self._socket.recv(_NOBLOCK)
            if len(frames) < _KEPT_FRAMES:
                frames.append(frame)
        return frames

    def send(self, *frames: bytes) -> bool:
        """Send a message, whole or not at all, without waiting.

        Returns False if no peer is connected, if the peer has gone, or if it reads so slowly that its queue is full.
        """
        *first, last = frames
        try:
            for frame in first:
                self._socket.send(frame, _NOBLOCK | _MORE)
            self._socket.send(last, _NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise
        if self._readable():
            self._loop.call_soon(self._drain)
        return True

    def close(self) -> None:
        """Close now; what is not sent within 100 ms is dropped."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._fd)
            self._socket.close(linger=100)


class _Watched(Endpoint):
    """A socket with a monitor. Close it before its monitor.

    The closed socket lingers, and would report the loss of its connection to a monitor that is gone: ZeroMQ's thread
    would then wait for a reader for ever, and with it every socket of the process.
    """

    def close(self) -> None:
        """End the reports, then close as every endpoint."""
        if not self._closed:
            self._socket.disable_monitor()
        super().close()


def dealer(
    address: str,
    on_message: Callable[[list[bytes]], None],
    on_connected: Callable[[], None],
    on_lost: Callable[[], None],
) -> tuple[Endpoint, Endpoint]:
    """Return a caller's socket, which reconnects by itself, and the monitor that calls `on_connected` and `on_lost`."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
    monitor = _monitor(context, socket)

    def on_event(frames: list[bytes]) -> None:
        event = parse_monitor_message(frames)["event"]
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            on_connected()
        elif event == zmq.EVENT_DISCONNECTED:
            on_lost()

    watcher = Endpoint(monitor, on_event)
    caller = _Watched(socket, on_message)
    socket.connect(address)
    return caller, watcher


def _monitor(context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    """Return the socket that reports when `socket` gains or loses its connection.

    Its queue has no limit: ZeroMQ's own thread, the one of all sockets of the process, waits if an event does not fit.
    """
    address = f"inproc://monitor-{int(socket.getsockopt(zmq.FD))}"
    socket.monitor(address, zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
    monitor: zmq.Socket[bytes] = context.socket(zmq.PAIR)
    monitor.setsockopt(zmq.RCVHWM, 0)
    monitor.connect(address)
    return monitor


def router(address: str, on_message: Callable[[list[bytes]], None]) -> Endpoint:
    """Return a worker's socket. Its group, which it inherits from the folder, may connect; others may not."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    path = Path(address.removeprefix("ipc://"))
    path.parent.mkdir(parents=True, exist_ok=True)
    before = os.umask(0o007)
    try:
        socket.bind(address)
    finally:
        os.umask(before)
    return Endpoint(socket, on_message)
