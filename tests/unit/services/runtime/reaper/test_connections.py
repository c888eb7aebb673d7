from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.runtime.reaper.connections import GREETING, Connections


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as made:
        made.bind(str(tmp_path / "reaper"))
        made.listen()
        yield made


def connected(listener: socket.socket) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.settimeout(5)
    made.connect(listener.getsockname())
    return made


def test_a_request_comes_with_its_descriptors_and_is_answered_once(listener: socket.socket) -> None:
    poll = select.poll()
    connections = Connections(listener, poll)
    assert (bool(connections), connections.had_any) == (False, False)
    with connected(listener) as worker:
        [(fd, _)] = poll.poll(5000)
        assert connections.receive(fd) is None
        assert worker.recv(16) == GREETING
        socket.send_fds(worker, [b"{}"], [0, 0, 0, 0])
        [(fd, _)] = poll.poll(5000)
        asked = connections.receive(fd)
        assert asked is not None
        assert (asked.message, len(asked.fds)) == (b"{}", 4)
        assert not any(os.get_inheritable(one) for one in asked.fds)
        for one in asked.fds:
            os.close(one)
        connections.answer(asked.connection, pid=7)
        connections.answer(asked.connection, pid=8)
        assert worker.recv(64) == b'{"pid": 7}'
        assert worker.recv(64) == b""
    assert (bool(connections), connections.had_any) == (False, True)


def test_who_goes_or_sends_too_few_descriptors_is_dropped(listener: socket.socket) -> None:
    poll = select.poll()
    connections = Connections(listener, poll)
    for fds in ([], [0, 0, 0]):
        with connected(listener) as worker:
            connections.receive(listener.fileno())
            assert connections
            if fds:
                socket.send_fds(worker, [b"{}"], fds)
            else:
                worker.shutdown(socket.SHUT_RDWR)
            [(fd, _)] = poll.poll(5000)
            assert connections.receive(fd) is None
        assert not connections
    assert connections.receive(12345) is None
