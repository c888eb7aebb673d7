"""conmon's attach socket, by which a container's own input and output are reached, and its control pipe.

Run by the runtime worker. conmon keeps the connection of an attach that has ended, and 32 KiB for it, until the
container next writes output.
"""

from __future__ import annotations

import os
import socket

from kernel.errors import FailedPrecondition, ResourceExhausted
from kernel.host import fdpass
from kernel.host.aio import Deadline
from services.runtime.records.bundle import ContainerBundle
from services.runtime.records.container import Container

_MOST_ATTACHED = 1000
"""The number of a conmon's descriptors at which it gets no more attaches."""


def check_room(container: Container, conmon_pid: int) -> None:
    """Raise ResourceExhausted if conmon holds too many attaches, also of ended ones."""
    try:
        count = len(os.listdir(f"/proc/{conmon_pid}/fd"))
    except OSError:  # it has ended, which the connection will show
        return
    if count > _MOST_ATTACHED:
        raise ResourceExhausted(
            f"container {container.id}: its conmon holds {count} descriptors, of attaches that may be over",
            hint="it closes those when the container next writes output",
        )


async def connect(connection: socket.socket, folder: ContainerBundle, deadline: Deadline) -> None:
    """Connect to the container's attach socket; FailedPrecondition if nothing takes the connection.

    Through a descriptor of the bundle, because the socket's whole path is longer than a socket's address may be.
    """
    connection.setblocking(False)
    try:
        below = os.open(folder.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            async with deadline.limit(f"container {folder.id}: attach"):
                await fdpass.connect(connection, f"/proc/self/fd/{below}/{folder.attach.name}")
        finally:
            os.close(below)
    except OSError as error:
        raise FailedPrecondition(f"container {folder.id}: its attach socket: {error.strerror}") from error


def open_control(folder: ContainerBundle) -> int:
    """Open conmon's control pipe, for changes of the terminal's size; FailedPrecondition if it has no reader."""
    try:
        return os.open(folder.control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise FailedPrecondition(f"conmon's control pipe {folder.control}: {error.strerror}") from error
