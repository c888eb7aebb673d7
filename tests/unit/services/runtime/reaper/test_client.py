"""The reaper as its worker sees it, with shell scripts for an OCI runtime."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from kernel.errors import DeadlineExceeded, Internal
from kernel.host.aio import Deadline
from services.runtime.reaper import program
from services.runtime.reaper.client import ReaperClient
from services.runtime.reaper.connections import GREETING
from tests.harness import host

SOON = 20
TREE = Path(program.__file__).parents[3]
DETACHED = 'RUNTIME=$$ "$@" & echo $! > "$PID_FILE"'
"""Starts a command, notes its pid and leaves it behind."""
LEFT = "while kill -0 $RUNTIME 2>/dev/null; do :; done; "
"""Begins a command that shall not end before that has ended: a shell would see the end itself."""


class Asker:
    """Commands of one reaper."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client = ReaperClient(folder / "reaper")

    async def start(self, script: str, *words: str, name: str = "a", seconds: float = SOON) -> tuple[int, int]:
        """What the reaper says, and the pipe on which the exit code comes."""
        pid_file = self.folder / f"{name}.pid"
        argv = ["/bin/sh", "-c", f"PID_FILE={pid_file}; {script}", "sh", *words]
        read, write = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        try:
            code = await self.client.start(argv, pid_file, [write, null, null, null], Deadline.after(seconds))
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
            os.close(null)
        return code, read

    def pid(self, name: str = "a") -> int:
        return int((self.folder / f"{name}.pid").read_text())


async def said(status: int) -> bytes:
    """All that comes on a pipe, which is closed then."""
    async with asyncio.timeout(SOON):
        got = await asyncio.to_thread(os.read, status, 64)
        assert not got or await asyncio.to_thread(os.read, status, 64) == b""
    os.close(status)
    return got


async def gone(pid: int) -> None:
    async with asyncio.timeout(SOON):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.02)


async def forgotten(asker: Asker) -> None:
    async with asyncio.timeout(SOON):
        while list(asker.folder.glob("*.pid")):
            await asyncio.sleep(0.02)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
async def asker(tmp_path: Path) -> AsyncIterator[Asker]:
    made = Asker(tmp_path)
    yield made
    made.client.let_go()


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 255", 255), ("kill -TERM $$", 143)])
async def test_the_exit_code_comes_on_the_pipe(asker: Asker, script: str, code: int) -> None:
    started, status = await asker.start(DETACHED, "sh", "-c", LEFT + script)
    assert started == 0
    assert await said(status) == b"%d\n" % code
    assert not list(asker.folder.glob("*.pid"))


async def test_a_runtime_that_fails_says_its_own_code(asker: Asker) -> None:
    code, status = await asker.start("exit 77")
    assert (code, await said(status)) == (77, b"")
    code, status = await asker.start("kill -KILL $$")
    assert (code, await said(status)) == (-9, b"")


async def test_a_runtime_that_is_not_there_is_named(asker: Asker) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    with pytest.raises(Internal, match="/no/such: cannot be started: No such file"):
        await asker.client.start(["/no/such"], asker.folder / "x", [null] * 4, Deadline.after(SOON))
    os.close(null)


def descriptors(pid: int) -> set[str]:
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


async def test_one_reaper_serves_all_and_another_worker_finds_it(asker: Asker) -> None:
    statuses = [(await asker.start(DETACHED, "sleep", "600", name=str(number)))[1] for number in range(3)]
    asker.client.let_go()
    asker.client = ReaperClient(asker.folder / "reaper")
    statuses.append((await asker.start(DETACHED, "sleep", "600", name="3"))[1])
    pids = [asker.pid(str(number)) for number in range(4)]
    [only] = {parent(pid) for pid in pids}
    assert Path(f"/proc/{only}/comm").read_text() == "crisp-reaper\n"
    assert (asker.folder / "reaper").stat().st_mode & 0o777 == 0o600, "whoever reaches it has root's programs run"
    # What sleep opens itself as it starts (locales) is closed soon; what it inherited would stay.
    host.until("a command has its three descriptors and no other", lambda: descriptors(pids[3]) == {"/dev/null"}, 5)
    for pid, status in zip(pids, statuses, strict=True):
        os.kill(pid, signal.SIGUSR1)
        assert await said(status) == b"%d\n" % (128 + signal.SIGUSR1)
    _, status = await asker.start(DETACHED, "sh", "-c", LEFT)
    assert await said(status) == b"0\n"
    assert Path(f"/proc/{only}").exists(), "its worker keeps it for a while"
    asker.client.let_go()
    await gone(only)
    _, status = await asker.start(DETACHED, "sh", "-c", LEFT)
    assert await said(status) == b"0\n", "the next one starts another"


async def test_who_closes_the_pipe_ends_the_command_and_all_that_came_of_it(asker: Asker) -> None:
    script = "trap '' HUP TERM; (sleep 600 & sleep 600 & echo $! > $0.child); sleep 600; true"
    _, status = await asker.start(DETACHED, "sh", "-c", script, str(asker.folder / "a"))
    child, pid = asker.folder / "a.child", asker.pid()
    async with asyncio.timeout(SOON):
        while not child.exists() or not child.read_text().strip():
            await asyncio.sleep(0.02)
    os.close(status)
    await gone(pid)
    await gone(int(child.read_text()))
    await forgotten(asker)


async def test_a_runtime_that_hangs_is_killed_with_what_it_had_started(asker: Asker) -> None:
    with pytest.raises(DeadlineExceeded):
        await asker.start(f'echo $$ > "$PID_FILE.self"; {DETACHED}; sleep 600', "sleep", "600", seconds=0.5)
    await gone(int((asker.folder / "a.pid.self").read_text()))
    await forgotten(asker)


async def test_a_reaper_that_is_killed_amid_a_start_is_told(asker: Asker) -> None:
    _, status = await asker.start(DETACHED, "sleep", "600")
    killed = asyncio.get_running_loop().create_task(asker.start("exec sleep 600", name="b"))
    only = parent(asker.pid())
    async with asyncio.timeout(SOON):
        while len(Path(f"/proc/{only}/task/{only}/children").read_text().split()) < 2:
            await asyncio.sleep(0.02)
    children = [int(word) for word in Path(f"/proc/{only}/task/{only}/children").read_text().split()]
    os.kill(only, signal.SIGKILL)
    with pytest.raises(Internal, match="reaper"):
        await killed
    assert await said(status) == b"", "nobody knows how it ended"
    for pid in children:
        os.kill(pid, signal.SIGKILL)


async def test_a_reaper_that_is_told_to_end_ends_its_commands(asker: Asker) -> None:
    _, status = await asker.start(DETACHED, "sh", "-c", "trap '' TERM; sleep 600; true")
    pid = asker.pid()
    only = parent(pid)
    os.kill(only, signal.SIGTERM)
    await gone(pid)
    await gone(only)
    assert await said(status) == b""


async def test_it_ends_at_once_after_its_worker(asker: Asker) -> None:
    """With the last command: nobody else would ask it."""
    code = f"""
import asyncio, os, sys; sys.path.insert(0, {str(TREE)!r})
from pathlib import Path
from tests.unit.services.runtime.reaper.test_client import Asker, DETACHED
asyncio.get_event_loop_policy().set_child_watcher(asyncio.PidfdChildWatcher())
code, status = asyncio.run(Asker(Path({str(asker.folder)!r})).start(DETACHED, "sleep", "600"))
os.set_inheritable(status, True)
os.execvp("sh", ["sh", "-c", "read x; (read x) <&%d & exit" % status])
"""
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, cwd=TREE)
    async with asyncio.timeout(SOON):
        while not list(asker.folder.glob("*.pid")) or not (asker.folder / "a.pid").read_text().strip():
            await asyncio.sleep(0.02)
    pid = asker.pid()
    only = parent(pid)
    worker.communicate(b"\n", timeout=SOON)
    assert Path(f"/proc/{pid}").exists(), "somebody reads its status still"
    os.kill(pid, signal.SIGKILL)
    await gone(only)


async def test_many_at_once_share_one(asker: Asker) -> None:
    async def one(number: int) -> bytes:
        code, status = await asker.start(DETACHED, "sh", "-c", f"{LEFT}exit {number}", name=str(number))
        assert code == 0
        return await said(status)

    assert await asyncio.gather(*(one(number) for number in range(40))) == [b"%d\n" % number for number in range(40)]


async def test_an_end_that_only_the_runtime_has_seen_is_unknown(asker: Asker) -> None:
    code, status = await asker.start(f"{DETACHED}; wait; exit 0", "true")
    assert (code, await said(status)) == (0, b"")


async def test_a_socket_that_nobody_listens_on_is_replaced(asker: Asker) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(asker.folder / "reaper"))
    _, status = await asker.start(DETACHED, "sh", "-c", LEFT)
    assert await said(status) == b"0\n"


async def test_what_a_reaper_does_not_understand_it_says(asker: Asker) -> None:
    _, status = await asker.start(DETACHED, "sleep", "600")
    for message, fds in ((b"{", 4), (b"{}", 4), (b"{}", 1)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.settimeout(SOON)
            stranger.connect(str(asker.folder / "reaper"))
            assert stranger.recv(1) == GREETING
            socket.send_fds(stranger, [message], [0] * fds)
            assert (b"cannot read the request" in stranger.recv(4096)) is (fds == 4)
    os.kill(asker.pid(), signal.SIGKILL)
    assert await said(status) == b"137\n", "it serves on"
