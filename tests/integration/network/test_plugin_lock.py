"""Plugins that outlive a worker are waited for, and ended where they hang."""

import asyncio
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.errors import Internal
from services.network.plugins import plugin_lock


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that holds the lock as a plugin of a dead worker does, until its input ends."""
    fd = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(fd,)) as process:
        os.close(fd)
        yield process
        process.kill()


def test_the_lock_exists_only_for_the_body(tmp_path: Path) -> None:
    with plugin_lock.hold(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()
        with pytest.raises(Internal, match="still run"), plugin_lock.hold(tmp_path / "lock"):
            pass
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()


async def test_without_a_lock_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    await plugin_lock.wait_or_kill(tmp_path / "lock", 0)
    (tmp_path / "lock").touch()
    await plugin_lock.wait_or_kill(tmp_path / "lock", 0)
    assert not (tmp_path / "lock").exists()


async def test_an_orphan_is_given_time(tmp_path: Path, orphan: subprocess.Popen[bytes]) -> None:
    assert orphan.stdin is not None
    settled = asyncio.get_running_loop().create_task(plugin_lock.wait_or_kill(tmp_path / "lock", 5))
    done, _ = await asyncio.wait([settled], timeout=0.1)
    assert not done
    orphan.stdin.close()
    await settled
    assert orphan.wait(5) == 0
    assert not (tmp_path / "lock").exists()


async def test_an_orphan_that_hangs_is_ended(tmp_path: Path, orphan: subprocess.Popen[bytes]) -> None:
    await plugin_lock.wait_or_kill(tmp_path / "lock", 0.1)
    assert orphan.wait(5) == -9
    assert not (tmp_path / "lock").exists()
