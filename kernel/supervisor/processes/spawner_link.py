"""The messages between supervisor and spawner: MessagePack on a SOCK_SEQPACKET socket, one message per packet.

The spawner's end blocks, because the spawner has no other work; the supervisor's is on its event loop. Descriptors are
sent beside a message (SCM_RIGHTS). The end of the other side is reported as end of file.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TypeVar

import msgspec

from kernel.host import rights

_LARGEST = 4096
_T = TypeVar("_T")


class Spawn(msgspec.Struct, frozen=True, tag="spawn"):
    """A message to the spawner: fork this worker."""

    name: str


class Measure(msgspec.Struct, frozen=True, tag="measure"):
    """A message to the spawner: read these processes' memory, which only a process of full privilege may."""

    pids: tuple[int, ...]


class Bye(msgspec.Struct, frozen=True, tag="bye"):
    """A message to the spawner: all is done, end with this status. Without it, end of file means that the supervisor
    died."""

    status: int = 0


class Reread(msgspec.Struct, frozen=True, tag="reread"):
    """A message to the spawner: the effective configuration has changed; fork from now on with the new content of its
    file."""


class Started(msgspec.Struct, frozen=True, tag="started"):
    """A message from the spawner, with a pidfd: a worker was forked."""

    name: str
    pid: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A message from the spawner: a worker could not be forked."""

    name: str
    why: str


class Died(msgspec.Struct, frozen=True, tag="died"):
    """A message from the spawner: a child of its own was reaped. A negative code is the signal that ended it."""

    name: str
    pid: int
    code: int


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """A message from the spawner: PSS in bytes by pid; a process that has gone is left out."""

    memory: dict[int, int]


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """A message from the spawner: it was ordered to end the daemon (SIGTERM or SIGINT)."""


class Hangup(msgspec.Struct, frozen=True, tag="hangup"):
    """A message from the spawner: it was ordered to read the configuration again (SIGHUP)."""


ToSpawner = Spawn | Measure | Bye | Reread
ToSupervisor = Started | Failed | Died | Measured | Stop | Hangup
_ENCODER = msgspec.msgpack.Encoder()
_TO_SPAWNER: msgspec.msgpack.Decoder[ToSpawner] = msgspec.msgpack.Decoder(ToSpawner)
_TO_SUPERVISOR: msgspec.msgpack.Decoder[ToSupervisor] = msgspec.msgpack.Decoder(ToSupervisor)


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new link."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: ToSpawner | ToSupervisor, *fds: int) -> None:
    """Send a message. Raises OSError if the other side has gone or reads too slowly."""
    rights.send(end, _ENCODER.encode(message), fds)


def receive_from_supervisor(end: socket.socket) -> ToSpawner | None:
    """Return the next message; None at end of file."""
    data = _read(lambda: end.recv(_LARGEST))
    return _TO_SPAWNER.decode(data) if data else None


def receive_from_spawner(end: socket.socket) -> tuple[ToSupervisor | None, list[int]]:
    """Return the next message and its descriptors, which the caller then owns; None at end of file."""
    data, fds = _read(lambda: rights.receive(end, _LARGEST, 1))
    return (_TO_SUPERVISOR.decode(data) if data else None), fds


def _read(receive: Callable[[], _T]) -> _T:
    """Receive once more after a reset of the connection.

    If a side closes with messages that it has not read, Linux reports ECONNRESET to the other side, once, and before
    the last messages of the side that closed: the spawner would miss the order to end.
    """
    try:
        return receive()
    except ConnectionResetError:
        return receive()
