"""Descriptors over a unix socket: taken, refused, and never left open."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernel.contracts.stream import Passed, Role
from kernel.errors import DeadlineExceeded, InvalidInput, Unavailable
from kernel.host import fdpass
from kernel.host.aio import Deadline, report_lost_errors
from kernel.ids import new_session

SOON = 20


def descriptors() -> set[str]:
    gc.collect()  # an earlier test's descriptors are closed now, not between two looks
    return set(os.listdir("/proc/self/fd"))


class Taker:
    """Keeps what it gets, or refuses it."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, list[int]]] = []
        self.willing = True

    def __call__(self, message: bytes, fds: list[int]) -> bool:
        if self.willing:
            self.got.append((message, fds))
        return self.willing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fds.sock"


@pytest.fixture
def taker() -> Taker:
    return Taker()


@pytest.fixture
async def receiver(path: Path, taker: Taker) -> Iterator[fdpass.Receiver]:
    made = fdpass.Receiver(path, taker, uid=os.getuid())
    yield made
    made.close()


async def sent(path: Path, message: bytes, fds: list[int]) -> None:
    await fdpass.send(path, message, fds, Deadline.after(SOON))


async def test_descriptors_arrive_open_and_closed_on_exec(receiver: fdpass.Receiver, path: Path, taker: Taker) -> None:
    read, write = os.pipe()
    before = descriptors()
    await sent(path, b"about them", [read, write])
    [(message, fds)] = taker.got
    assert message == b"about them"
    assert not any(os.get_inheritable(fd) for fd in fds)
    os.write(fds[1], b"through both")
    assert os.read(read, 64) == b"through both"
    for fd in fds:
        os.close(fd)
    assert descriptors() == before
    os.close(read)
    os.close(write)


async def test_what_is_not_wanted_is_closed_and_the_sender_is_told(
    receiver: fdpass.Receiver, path: Path, taker: Taker
) -> None:
    read, write = os.pipe()
    before = descriptors()
    taker.willing = False
    with pytest.raises(Unavailable, match="not wanted"):
        await sent(path, b"x", [read, write])
    os.close(write)
    assert os.read(read, 1) == b"", "its copy of the other end is closed too"
    os.close(read)
    assert len(descriptors()) == len(before) - 2


async def test_too_many_descriptors_are_refused_whole(receiver: fdpass.Receiver, path: Path, taker: Taker) -> None:
    before = descriptors()
    with pytest.raises(Unavailable):
        await sent(path, b"x", [0] * (fdpass.MOST_DESCRIPTORS + 1))
    assert not taker.got
    assert descriptors() == before


async def test_an_empty_or_oversized_message_is_refused(receiver: fdpass.Receiver, path: Path, taker: Taker) -> None:
    for message in (b"", b"x" * 5000):
        with pytest.raises(Unavailable):
            await sent(path, message, [0])
    assert not taker.got


async def test_another_user_is_refused(path: Path, taker: Taker) -> None:
    receiver = fdpass.Receiver(path, taker, uid=os.getuid() + 1)
    with pytest.raises(Unavailable):
        await sent(path, b"x", [0])
    assert not taker.got
    receiver.close()


async def test_nobody_there_is_unavailable(path: Path) -> None:
    with pytest.raises(Unavailable, match=r"fds\.sock"):
        await sent(path, b"x", [0])


async def test_a_receiver_that_does_not_answer_costs_the_deadline(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.bind(str(path))
        silent.listen(1)
        with pytest.raises(DeadlineExceeded, match=r"fds\.sock"):
            await fdpass.send(path, b"x", [0], Deadline.after(0.1))


async def test_a_sender_that_says_nothing_is_dropped(path: Path, taker: Taker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fdpass, "_PATIENCE", 0.05)
    receiver = fdpass.Receiver(path, taker, uid=os.getuid())
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.setblocking(False)
        silent.connect(str(path))
        async with asyncio.timeout(SOON):
            assert await asyncio.get_running_loop().sock_recv(silent, 1) == b""
    receiver.close()


async def test_many_senders_at_once_are_all_served(receiver: fdpass.Receiver, path: Path, taker: Taker) -> None:
    before = descriptors()
    await asyncio.gather(*(sent(path, str(number).encode(), [0, 1]) for number in range(300)))
    assert {message for message, _ in taker.got} == {str(number).encode() for number in range(300)}
    for _, fds in taker.got:
        for fd in fds:
            os.close(fd)
    assert descriptors() == before


async def test_a_successor_takes_the_path(receiver: fdpass.Receiver, path: Path) -> None:
    taker = Taker()
    receiver.close()
    successor = fdpass.Receiver(path, taker, uid=os.getuid())
    await sent(path, b"x", [])
    assert taker.got == [(b"x", [])]
    successor.close()


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1], lambda whole: b"\xc1", lambda whole: whole + b"x"])
def test_a_message_about_descriptors_reads_back_or_is_refused(damage: Callable[[bytes], bytes]) -> None:
    said = Passed(session=new_session(), connection=3, roles=(Role.STDIN, Role.STATUS))
    assert Passed.decode(said.encode()) == said
    with pytest.raises(InvalidInput):
        Passed.decode(damage(said.encode()))


async def test_a_bug_of_the_receiver_leaves_nothing_open_and_nobody_waiting(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report_lost_errors()

    def broken(_message: bytes, _fds: list[int]) -> bool:
        raise KeyError("session")

    receiver = fdpass.Receiver(path, broken, uid=os.getuid())
    before = descriptors()
    with pytest.raises(Unavailable, match="not wanted"):
        await sent(path, b"x", [0])
    assert descriptors() == before
    assert "KeyError: 'session'" in caplog.text
    receiver.close()
