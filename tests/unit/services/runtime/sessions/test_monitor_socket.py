from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from kernel.errors import FailedPrecondition, ResourceExhausted
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, SandboxId
from services.runtime.records.bundle import ContainerBundle, ContainerState
from services.runtime.records.container import Container
from services.runtime.sessions import monitor_socket

CONTAINER = ContainerId("c" * 64)


@pytest.fixture
def folder(tmp_path: Path) -> ContainerBundle:
    found = ContainerBundle(tmp_path / ("long" * 20), CONTAINER)  # longer than a socket's address may be
    found.path.mkdir(parents=True)
    return found


async def test_it_is_reached_however_long_its_path_is(folder: ContainerBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        monkeypatch.chdir(folder.path)
        listener.bind("attach")
        listener.listen()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            await monitor_socket.connect(connection, folder, Deadline.after(5))
            listener.accept()[0].close()


async def test_without_a_conmon_nothing_is_connected(folder: ContainerBundle) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection,
        pytest.raises(FailedPrecondition, match="its attach socket: No such file"),
    ):
        await monitor_socket.connect(connection, folder, Deadline.after(5))
    with pytest.raises(FailedPrecondition, match="control pipe"):
        monitor_socket.open_control(folder)
    os.mkfifo(folder.control)
    with pytest.raises(FailedPrecondition, match="control pipe"):
        monitor_socket.open_control(folder)


async def test_a_conmon_with_too_many_attaches_gets_no_more(
    folder: ContainerBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = ContainerState(
        phase="started", sandbox_id=SandboxId("a" * 64), handler="runc", cgroup="/x", conmon_cgroup="/y"
    )
    container = Container(CONTAINER, folder, state)
    monitor_socket.check_room(container, os.getpid())
    monkeypatch.setattr(monitor_socket, "_MOST_ATTACHED", 0)
    with pytest.raises(ResourceExhausted, match="of attaches that may be over"):
        monitor_socket.check_room(container, os.getpid())
    monitor_socket.check_room(container, 1 << 22 | 1)
