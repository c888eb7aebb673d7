"""The socket that an OCI runtime sends a terminal to."""

from __future__ import annotations

import os
import pty
import socket
import termios
from pathlib import Path

import pytest

from kernel.errors import Internal
from services.runtime.sessions import console
from services.runtime.sessions.console import Console


def sent(path: Path, fds: list[int]) -> None:
    """As an OCI runtime does it: it does not wait, and is gone before anybody looks."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sender:
        sender.connect(str(path))
        socket.send_fds(sender, [b"/dev/pts/ptmx"], fds)


async def test_a_terminal_comes_and_is_resized(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    with Console(tmp_path) as wanted:
        assert wanted.path.stat().st_mode & 0o777 == 0o600
        sent(wanted.path, [master])
        got = await wanted.terminal()
    assert list(tmp_path.iterdir()) == []
    assert not os.get_inheritable(got)
    console.resize(got, 100, 40)
    assert termios.tcgetwinsize(slave) == (40, 100)
    console.resize(got, 1 << 20, 1 << 20)
    assert termios.tcgetwinsize(slave) == (65535, 65535)
    for fd in (master, slave, got):
        os.close(fd)


async def test_a_message_without_a_terminal_is_an_error_and_the_socket_goes(tmp_path: Path) -> None:
    async def none_comes() -> None:
        with Console(tmp_path) as wanted:
            sent(wanted.path, [])
            await wanted.terminal()

    with pytest.raises(Internal, match="no terminal"):
        await none_comes()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_worker_left_is_taken_away(tmp_path: Path) -> None:
    for name in ("tty-01234567", "reaper", "pods"):
        (tmp_path / name).touch()
    console.remove_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pods", "reaper"]
