"""Calls to the daemon: to the front by its CRI socket, to the supervisor and the network worker by their bus endpoints.

A plain connect first finds out whether a process listens: a daemon that is down is reported at once and not after a
deadline. Errors of gRPC become kernel.errors here.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from kernel import errors
from kernel.cli.exit_status import NotReachable
from kernel.errors import CrispError

if TYPE_CHECKING:
    import grpc

    from kernel.config.paths import Paths
    from kernel.contracts.definition import Contract, Message, Method
    from kernel.cri.generated.cri_pb2_grpc import ImageServiceStub, RuntimeServiceStub
    from kernel.cri.generated.node_pb2_grpc import NodeStub

_Request = TypeVar("_Request", contravariant=True)
_Reply = TypeVar("_Reply", covariant=True)
_BusRequest = TypeVar("_BusRequest", bound="Message")
_BusReply = TypeVar("_BusReply", bound="Message")
_MESSAGE_LIMIT = 80 << 20

_KINDS: dict[str, type[CrispError]] = {
    "INVALID_ARGUMENT": errors.InvalidInput,
    "NOT_FOUND": errors.NotFound,
    "ALREADY_EXISTS": errors.AlreadyExists,
    "FAILED_PRECONDITION": errors.FailedPrecondition,
    "UNAUTHENTICATED": errors.Unauthenticated,
    "PERMISSION_DENIED": errors.PermissionDenied,
    "RESOURCE_EXHAUSTED": errors.ResourceExhausted,
    "DEADLINE_EXCEEDED": errors.DeadlineExceeded,
    "CANCELLED": errors.Cancelled,
    "UNAVAILABLE": errors.Unavailable,
    "UNIMPLEMENTED": errors.Unimplemented,
    "DATA_LOSS": errors.Corrupt,
    "UNKNOWN": errors.Untrusted,
}


class Unary(Protocol[_Request, _Reply]):
    """A stub's method with one reply."""

    def __call__(self, request: _Request, /, timeout: float | None = None) -> _Reply:
        """Call it."""


class Streaming(Protocol[_Request, _Reply]):
    """A stub's method with many replies."""

    def __call__(self, request: _Request, /, timeout: float | None = None) -> Iterator[_Reply]:
        """Call it."""


@dataclass
class Daemon:
    """The front, through its socket."""

    socket: Path

    @cached_property
    def _channel(self) -> grpc.Channel:
        reach(self.socket)
        import grpc

        options = [
            ("grpc.max_receive_message_length", _MESSAGE_LIMIT),
            ("grpc.max_send_message_length", _MESSAGE_LIMIT),
            ("grpc.enable_http_proxy", 0),
        ]
        return grpc.insecure_channel(f"unix:{self.socket}", options)

    @cached_property
    def runtime(self) -> RuntimeServiceStub:
        """The CRI's RuntimeService."""
        from kernel.cri.generated.cri_pb2_grpc import RuntimeServiceStub

        return RuntimeServiceStub(self._channel)

    @cached_property
    def images(self) -> ImageServiceStub:
        """The CRI's ImageService."""
        from kernel.cri.generated.cri_pb2_grpc import ImageServiceStub

        return ImageServiceStub(self._channel)

    @cached_property
    def node(self) -> NodeStub:
        """The front's methods beside the CRI."""
        from kernel.cri.generated.node_pb2_grpc import NodeStub

        return NodeStub(self._channel)

    def call(self, method: Unary[_Request, _Reply], request: _Request, seconds: float = 30) -> _Reply:
        """Return the reply; a gRPC error is raised as a CrispError."""
        import grpc

        try:
            return method(request, timeout=seconds)
        except grpc.RpcError as error:
            raise _crisp_error(error) from error

    def stream(self, method: Streaming[_Request, _Reply], request: _Request) -> Iterator[_Reply]:
        """Yield replies as they come; a gRPC error is raised as a CrispError."""
        import grpc

        try:
            yield from method(request)
        except grpc.RpcError as error:
            raise _crisp_error(error) from error


def reach(path: Path) -> None:
    """Raise NotReachable unless a process listens on a unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(os.fspath(path))
        except PermissionError as error:
            raise NotReachable(f"socket {path}: permission denied", hint="run crisp as root") from error
        except OSError as error:
            reason = (
                "no process listens" if error.errno == errno.ECONNREFUSED else (error.strerror or str(error)).lower()
            )
            raise NotReachable(
                f"socket {path}: {reason}", hint="is the daemon up? start it with `crisp daemon`"
            ) from error


def ask_supervisor(paths: Paths, method: Method[_BusRequest, _BusReply], request: _BusRequest) -> _BusReply:
    """Call the supervisor on the bus."""
    from kernel.contracts import supervisor

    return _ask(paths, supervisor.CONTRACT, method, request)


def ask_network(paths: Paths, method: Method[_BusRequest, _BusReply], request: _BusRequest) -> _BusReply:
    """Call the network worker on the bus."""
    from kernel.contracts import network

    return _ask(paths, network.CONTRACT, method, request)


def _ask(paths: Paths, contract: Contract, method: Method[_BusRequest, _BusReply], request: _BusRequest) -> _BusReply:
    reach(paths.bus_dir(contract.worker) / "calls")
    import asyncio

    from kernel.bus.client import Client
    from kernel.host.aio import Deadline

    async def call() -> _BusReply:
        client = Client(contract, paths.bus(contract.worker))
        try:
            return await client.call(method, request, deadline=Deadline.after(method.deadline))
        finally:
            await client.close()

    return asyncio.run(call())


def _crisp_error(error: grpc.RpcError) -> CrispError:
    # Every error that a call of a stub raises is a grpc.Call too, which its class does not declare.
    call = cast("grpc.Call", error)
    name, details = call.code().name, call.details() or ""
    if name == "UNAVAILABLE" and "failed to connect" in details:
        return NotReachable("the daemon closed its socket meanwhile", hint="see `crisp status`")
    return _KINDS.get(name, errors.Internal)(details or name.lower())
