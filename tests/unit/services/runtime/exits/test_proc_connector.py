from __future__ import annotations

import asyncio
import errno
import os
import struct
import sys
from pathlib import Path

import pytest

from services.runtime.exits.proc_connector import ProcConnector
from tests.harness import host

TREE = Path(__file__).resolve().parents[5]


def event(what: int, thread: int, process: int, status: int, at: int = 5) -> bytes:
    return bytes(36) + struct.pack("=IIQIII", what, 0, at, thread, process, status)


def silent() -> str:
    """Why the kernel rightly tells us nothing; an assertion fails if it should."""
    spaces = Path("/proc/self/ns")
    first = os.readlink(spaces / "pid") == "pid:[4026531836]" and os.readlink(spaces / "net") == os.readlink(
        "/proc/1/ns/net"
    )
    has = "cn_proc" in Path("/proc/net/connector").read_text() if Path("/proc/net/connector").exists() else False
    assert not (first and has)
    return "the kernel tells of no ends in these namespaces" if has else "this kernel tells of no ends"


async def test_ends_of_processes_are_noted_and_others_are_not() -> None:
    connector = ProcConnector()
    connector._on_event(event(0x80000000, 5, 5, 7 << 8))
    connector._on_event(event(0x80000000, 6, 6, 9))
    connector._on_event(event(0x80000000, 8, 5, 0))
    connector._on_event(event(1, 5, 5, 0))
    connector._on_event(b"short")
    assert (await connector.exit_code(5, 4), await connector.exit_code(6, 5)) == (7, 137)
    with connector.listen(), connector.listen():
        assert os.getpid() not in connector._codes
    assert connector._codes == {}


async def test_an_earlier_process_of_the_same_number_is_another_one() -> None:
    connector = ProcConnector()
    connector._on_event(event(0x80000000, 5, 5, 7 << 8, at=5))
    waiting = asyncio.ensure_future(connector.exit_code(5, 6))
    await asyncio.sleep(0)
    connector._on_event(event(0x80000000, 5, 5, 3 << 8, at=8))
    assert await waiting == 3
    with connector.listen() as first:
        with connector.listen():
            connector._on_event(event(0x80000000, 7, 7, 0, at=first - 1))
            connector._on_event(event(0x80000000, 9, 9, 0, at=first + 1))
        assert set(connector._codes) == {5, 7, 9}  # a later listener's end lets nothing of the first go
    assert connector._codes == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")
@pytest.mark.parametrize("namespace", ["--pid", "--net"])
def test_a_kernel_that_is_silent_in_a_namespace_is_noticed(namespace: str) -> None:
    program = (
        "import asyncio\nfrom services.runtime.exits.proc_connector import ProcConnector\n"
        "async def main():\n    connector = ProcConnector()\n"
        "    with connector.listen():\n        print(connector.speaks)\nasyncio.run(main())"
    )
    told = host.run("env", "--chdir", str(TREE), "unshare", namespace, "--fork", sys.executable, "-c", program)
    assert told.strip() == "False"


@pytest.mark.skipif(os.geteuid() != 0, reason="the kernel tells root alone")
async def test_the_kernel_gives_ends_of_processes_and_nothing_else() -> None:
    connector, kinds = ProcConnector(), list[tuple[int, bool]]()
    noted = connector._on_event

    def look(message: bytes) -> None:
        what, _, _, thread, process, _ = struct.unpack_from("=IIQIII", message, 36)
        if what:  # the kernel's answer to the subscription is none
            kinds.append((what, thread == process))
        noted(message)

    connector._on_event = look  # type: ignore[method-assign]
    with connector.listen() as since:
        if not connector.speaks:
            pytest.skip(silent())
        started = await asyncio.create_subprocess_exec("sh", "-c", "(exit 3); exit 4")
        async with asyncio.timeout(20):
            assert await connector.exit_code(started.pid, since) == 4
        await started.wait()
    assert set(kinds) == {(0x80000000, True)}
    assert len(kinds) >= 2


@pytest.mark.skipif(os.geteuid() != 0, reason="the kernel tells root alone")
async def test_what_the_kernel_keeps_is_read_when_somebody_wants_it() -> None:
    connector = ProcConnector()
    with connector.listen() as since:
        if not connector.speaks:
            pytest.skip(silent())
        early = await asyncio.create_subprocess_exec("sh", "-c", "exit 5")
        await early.wait()
        assert connector._codes == {}
        with connector.listen():
            assert connector._codes[early.pid][0] == 5  # a later listener makes room
        late = await asyncio.create_subprocess_exec("sh", "-c", "exit 6")
        await late.wait()
        async with asyncio.timeout(20):
            assert await connector.exit_code(early.pid, since) == 5
            assert await connector.exit_code(late.pid, since) == 6
    assert not connector._reading


class Broken:
    """A socket whose every reading fails, up to a last one."""

    def __init__(self, *errors: OSError) -> None:
        self.errors = [*errors, BlockingIOError()]

    def recv(self, _size: int) -> bytes:
        raise self.errors.pop(0)


def test_lost_events_are_passed_over_and_a_broken_socket_is_an_error() -> None:
    connector = ProcConnector()
    connector._on_events(Broken(OSError(errno.ENOBUFS, ""), OSError(errno.ENOBUFS, "")))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="Bad file descriptor"):
        connector._on_events(Broken(OSError(errno.EBADF, "Bad file descriptor")))  # type: ignore[arg-type]
