"""Descriptors beside a message."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from kernel.host import rights


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_message_brings_descriptors(ends: tuple[socket.socket, socket.socket]) -> None:
    read, write = os.pipe()
    rights.send(ends[0], b"take them", [read, write])
    message, fds = rights.receive(ends[1], 100, 4)
    assert message == b"take them"
    assert len(fds) == 2
    assert not any(os.get_inheritable(fd) for fd in fds)
    os.write(fds[1], b"x")
    assert os.read(read, 1) == b"x"
    for fd in (read, write, *fds):
        os.close(fd)


def test_a_message_without_any(ends: tuple[socket.socket, socket.socket]) -> None:
    rights.send(ends[0], b"none")
    assert rights.receive(ends[1], 100, 4) == (b"none", [])


def test_the_end_of_the_connection(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].close()
    assert rights.receive(ends[1], 100, 4) == (b"", [])


@pytest.mark.parametrize(("message", "count"), [(b"too long", 1), (b"x", 3)])
def test_what_is_too_much_leaves_nothing_open(
    ends: tuple[socket.socket, socket.socket], message: bytes, count: int
) -> None:
    before = descriptors()
    rights.send(ends[0], message, [0] * count)
    with pytest.raises(OSError, match="Message too long") as caught:
        rights.receive(ends[1], 4, 2)
    assert caught.value.errno == errno.EMSGSIZE
    assert descriptors() == before
