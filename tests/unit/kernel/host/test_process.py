"""Real programs: output, errors that can be pasted, deadlines that end the whole group."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from kernel.errors import DeadlineExceeded, Internal
from kernel.host import process
from kernel.host.aio import Deadline
from kernel.host.process import ended_with_body, kill_group, launch, run


async def test_output_and_input() -> None:
    done = await run(["cat"], deadline=Deadline.after(5), input=b"hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello", b"")


async def test_output_is_capped_and_the_program_still_ends() -> None:
    done = await run(["head", "-c", "300000", "/dev/zero"], deadline=Deadline.after(5), limit=1000)
    assert (done.returncode, len(done.stdout)) == (0, 1000)


async def test_a_failure_can_be_pasted_and_says_why() -> None:
    done = await run(["sh", "-c", "echo 'no such thing' >&2; exit 3"], deadline=Deadline.after(5))
    with pytest.raises(Internal, match=r"sh -c 'echo .*': exit status 3: no such thing"):
        done.check()


async def test_a_missing_program_is_named() -> None:
    with pytest.raises(Internal, match="/nowhere/x: cannot be started: No such file"):
        await run(["/nowhere/x"], deadline=Deadline.after(5))


async def test_the_deadline_ends_the_whole_group() -> None:
    with pytest.raises(DeadlineExceeded, match="did not end before the deadline"):
        await run(["sh", "-c", "sleep 60 & sleep 60"], deadline=Deadline.after(0.1))


async def test_nothing_of_ours_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "canary")
    done = await run(["env"], deadline=Deadline.after(5))
    assert b"canary" not in done.stdout
    assert b"PATH=" in done.stdout


async def test_a_child_is_reaped_when_it_ends_and_everybody_hears_its_code() -> None:
    child = launch(["sh", "-c", "exit 7"])
    waits = [asyncio.ensure_future(child.wait()) for _ in range(2)]
    waits[0].cancel()
    async with asyncio.timeout(20):
        assert (await waits[1], await child.wait(), child.returncode) == (7, 7, 7)
        while Path(f"/proc/{child.pid}").exists():  # its end was known before
            await asyncio.sleep(0)


async def test_a_childs_group_is_its_own_and_its_streams_are_those_given() -> None:
    reading, writing = os.pipe()
    child = launch(["sh", "-c", "echo said; exec sleep 60"], stdout=writing)
    os.close(writing)
    assert os.read(reading, 9) == b"said\n"
    os.close(reading)
    assert os.getpgid(child.pid) == child.pid
    kill_group(child)
    async with asyncio.timeout(20):
        assert await child.wait() == -9


async def test_a_program_does_not_outlive_the_body_that_waits_for_it() -> None:
    child = launch(["sleep", "60"])
    with pytest.raises(DeadlineExceeded):
        async with ended_with_body(child), Deadline.after(0.05).limit("waiting"):
            await child.wait()
    assert child.returncode == -9
    ended = launch(["true"])
    async with asyncio.timeout(20), ended_with_body(ended):
        assert await ended.wait() == 0


async def test_what_a_closed_loop_left_is_reaped_by_a_later_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_MOST_UNREAPED", 0)
    pids = []
    for _ in range(3):
        child = launch(["true"])
        pids.append(child.pid)
        async with asyncio.timeout(20):
            assert await child.wait() == 0
    assert not Path(f"/proc/{pids[0]}").exists()
    assert not Path(f"/proc/{pids[1]}").exists()


async def test_a_missing_program_is_named_at_its_launch() -> None:
    with pytest.raises(Internal, match="/nowhere/x: cannot be started: No such file"):
        launch(["/nowhere/x"])
