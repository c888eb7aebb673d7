"""Misbehaving plugins are bounded in time and output, and leave no process."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kernel.errors import DeadlineExceeded, Internal
from kernel.host.aio import Deadline
from services.network.plugins import plugin_process
from services.network.plugins.plugin_process import OUTPUT_LIMIT, Answer


@pytest.fixture
def lock_fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


async def run(tmp_path: Path, lock_fd: int, body: str, stdin: bytes = b"", seconds: float = 10.0) -> Answer:
    script = tmp_path / "plugin"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o700)
    env = {"PATH": os.environ["PATH"], "DIR": str(tmp_path)}
    return await plugin_process.run(str(script), stdin, env, deadline=Deadline.after(seconds), lock_fd=lock_fd)


async def gone(pid_file: Path) -> bool:
    """Whether the process ends soon: SIGKILL is sent, not yet delivered."""
    with suppress(ProcessLookupError):
        fd = os.pidfd_open(int(pid_file.read_text()))
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(fd, ended.set)
        try:
            await asyncio.wait_for(ended.wait(), 5)
        finally:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)
    return True


async def test_input_and_output_go_through(tmp_path: Path, lock_fd: int) -> None:
    data = b"x" * 300_000
    answer = await run(tmp_path, lock_fd, "cat; echo problem >&2; exit 3", data)
    assert answer == Answer(returncode=3, stdout=data, stderr=b"problem\n")


async def test_a_plugin_that_reads_nothing_is_no_problem(tmp_path: Path, lock_fd: int) -> None:
    assert (await run(tmp_path, lock_fd, "echo {}", b"x" * 300_000)).stdout == b"{}\n"


async def test_a_plugin_that_hangs_is_killed_with_its_children(tmp_path: Path, lock_fd: int) -> None:
    with pytest.raises(DeadlineExceeded, match="did not end in time"):
        await run(tmp_path, lock_fd, "sleep 60 & echo $! > $DIR/child; wait", seconds=0.5)
    assert await gone(tmp_path / "child")


async def test_endless_output_is_dropped(tmp_path: Path, lock_fd: int) -> None:
    answer = await run(tmp_path, lock_fd, "head -c 100000000 /dev/zero; head -c 100000000 /dev/zero >&2")
    assert len(answer.stdout) == len(answer.stderr) == OUTPUT_LIMIT + 1


async def test_a_child_that_keeps_the_output_open_does_not_keep_us(tmp_path: Path, lock_fd: int) -> None:
    began = time.monotonic()
    answer = await run(tmp_path, lock_fd, "sleep 60 & echo $! > $DIR/child; echo {}")
    assert answer.stdout == b"{}\n"
    assert time.monotonic() - began < 5
    assert await gone(tmp_path / "child")


async def test_a_cancelled_caller_ends_the_plugin(tmp_path: Path, lock_fd: int) -> None:
    started = tmp_path / "child"
    os.mkfifo(tmp_path / "ready")
    task = asyncio.get_running_loop().create_task(
        run(tmp_path, lock_fd, "echo $$ > $DIR/child; echo > $DIR/ready; sleep 60")
    )
    await asyncio.to_thread((tmp_path / "ready").read_text)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(started)


async def test_what_cannot_be_started_is_named(tmp_path: Path, lock_fd: int) -> None:
    with pytest.raises(Internal, match="cannot be started"):
        await plugin_process.run(str(tmp_path / "none"), b"", {}, deadline=Deadline.after(5), lock_fd=lock_fd)


async def test_no_descriptor_is_left_open(tmp_path: Path, lock_fd: int) -> None:
    await run(tmp_path, lock_fd, "echo {}")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await run(tmp_path, lock_fd, "echo {}")
        with pytest.raises(DeadlineExceeded):
            await run(tmp_path, lock_fd, "sleep 9", seconds=0.05)
    assert len(os.listdir("/proc/self/fd")) == before
