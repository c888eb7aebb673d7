"""Connections into pods for port-forwards: opened in the pod's own network namespace, handed to the stream process.

Runs on the network worker's event loop; only the socket is made in a thread that enters the namespace, so that no
thread ever waits there. The address is always the pod's loopback: 127.0.0.1, and then ::1.
"""

from __future__ import annotations

import asyncio
import os
import socket

from kernel.config.paths import Paths
from kernel.contracts.network import DialRequest
from kernel.contracts.stream import Passed, Role
from kernel.errors import FailedPrecondition, InvalidInput, NotFound
from kernel.host import fdpass
from kernel.host.aio import Deadline
from kernel.ids import sandbox_id, session_id, short
from services.network.links import netns

_LOOPBACKS = ((socket.AF_INET, "127.0.0.1", "tcp4 127.0.0.1"), (socket.AF_INET6, "::1", "tcp6 [::1]"))
_HIGHEST = 65535


async def dial(paths: Paths, request: DialRequest, deadline: Deadline) -> None:
    """Connect to the pod's port and hand the connection to the stream process; errors as in the contract (`DIAL`)."""
    session_id(request.session)
    sandbox_id(request.sandbox_id)
    if not 1 <= request.port <= _HIGHEST:
        raise InvalidInput(f"port {request.port} is not between 1 and {_HIGHEST}")
    with await _connected(paths, request, deadline) as connection:
        passed = Passed(session=request.session, connection=request.connection, roles=(Role.CONNECTION,))
        await fdpass.send(paths.stream_fds, passed.encode(), [connection.fileno()], deadline)


async def _connected(paths: Paths, request: DialRequest, deadline: Deadline) -> socket.socket:
    """Return a connection to the first loopback address that accepts one. FailedPrecondition names each refusal."""
    pod, refusals = f"pod {short(request.sandbox_id)}", []
    for family, address, name in _LOOPBACKS:
        what = f"dial {name}:{request.port}"
        try:
            connection = await _socket(paths, request, family, deadline)
        except OSError as error:  # a kernel without IPv6
            refusals.append(f"{what}: socket: {_reason(error)}")
            continue
        try:
            async with deadline.limit(f"{pod}: {what}"):
                await asyncio.get_running_loop().sock_connect(connection, (address, request.port))
        except OSError as error:
            connection.close()
            refusals.append(f"{what}: connect: {_reason(error)}")
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise FailedPrecondition(f"failed to connect to localhost:{request.port} inside {pod}: {'; '.join(refusals)}")


async def _socket(
    paths: Paths, request: DialRequest, family: socket.AddressFamily, deadline: Deadline
) -> socket.socket:
    """Return a TCP socket of the pod. NotFound if the pod has no namespace any more."""
    if request.host_network:
        made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    else:
        pin = paths.netns(request.sandbox_id)
        if not netns.is_pinned(pin):
            raise NotFound(f"pod {short(request.sandbox_id)} has no network namespace: it was stopped")
        made = socket.socket(fileno=await netns.open_socket(pin, family, deadline))
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _reason(error: OSError) -> str:
    return (os.strerror(error.errno) if error.errno else str(error)).lower()
