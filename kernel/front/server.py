"""The front's entry point: makes the clients and the replica, starts up, and serves gRPC on the CRI socket.

The front runs as the user `crisp` without capabilities in an empty network namespace; it reaches nothing but the bus
and the folder of its socket. Every RPC of every service is registered; one that `kernel.front.rpcs` does not list is
answered with UNIMPLEMENTED and its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from kernel.bus.client import Client
from kernel.config.sections import Config
from kernel.contracts import image, network, runtime, storage, stream, supervisor
from kernel.errors import Internal
from kernel.front import interceptor, recovery, rpcs
from kernel.front.context import Front, Rpcs, Serve, ServeStream
from kernel.front.memory.replica import Replica
from kernel.host import proc
from kernel.host.aio import Joins, Tasks

MESSAGE_LIMIT = 80 << 20
"""The largest message that is received or sent, in bytes."""
_GRACE_SECONDS = 3.0
"""Seconds that RPCs under way may go on once the front ends."""
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ("grpc.max_concurrent_streams", 1000),
    ("grpc.so_reuseport", 0),
)


class FrontService:
    """The running front. On the bus it serves no method but the built-in `hello`."""

    def __init__(self, front: Front, server: grpc.aio.Server) -> None:
        self._front = front
        self._server = server

    async def close(self) -> None:
        """Accept no more RPCs, give those under way a moment, and leave the flows that they began to the next start."""
        self._front.subscribers.close()
        await self._server.stop(_GRACE_SECONDS)
        await self._front.tasks.close()
        for client in clients(self._front):
            await client.close()


async def create(config: Config) -> FrontService:
    """Load the records, begin to serve, and go on with the flows that a crash cut off."""
    front = assemble(config)
    await recovery.load(front)
    server = await serve(front, config.paths.front_socket)
    recovery.begin(front)
    return FrontService(front, server)


def assemble(config: Config) -> Front:
    """Make the front's parts; nothing is under way yet."""
    tasks = Tasks()
    supervisor_client = Client(supervisor.CONTRACT, config.paths.bus("supervisor"))
    return Front(
        config=config,
        replica=Replica(supervisor_client),
        supervisor=supervisor_client,
        image=Client(image.CONTRACT, config.paths.bus("image")),
        storage=Client(storage.CONTRACT, config.paths.bus("storage")),
        network=Client(network.CONTRACT, config.paths.bus("network")),
        runtime=Client(runtime.CONTRACT, config.paths.bus("runtime")),
        stream=Client(stream.CONTRACT, config.paths.bus("stream")),
        tasks=tasks,
        boot_id=proc.boot_id(),
        runs=Joins(tasks),
        creates=Joins(tasks),
        ends=Joins(tasks),
    )


def clients(front: Front) -> tuple[Client, ...]:
    """Return all of the front's clients."""
    return (front.supervisor, front.image, front.storage, front.network, front.runtime, front.stream)


async def serve(front: Front, socket: Path) -> grpc.aio.Server:
    """Start the gRPC server with all services on a unix socket; raise Internal if it cannot be bound."""
    if api_implementation.Type() != "upb":
        raise Internal(
            f"protobuf runs on its {api_implementation.Type()} backend, which deep messages can crash",
            hint="install the protobuf wheel of this platform",
        )
    server = grpc.aio.server(options=_OPTIONS)
    for descriptor, table in rpcs.SERVICES:
        server.add_generic_rpc_handlers((handlers(front, descriptor, table),))
    mask = os.umask(0o117)  # only the kubelet and administrators may connect: mode 0660
    try:
        if server.add_insecure_port(f"unix:{socket}") == 0:
            raise Internal(f"socket {socket} cannot be bound")
    except RuntimeError as error:
        raise Internal(f"socket {socket} cannot be bound: {error}") from error
    finally:
        os.umask(mask)
    await server.start()
    return server


def handlers(front: Front, service: ServiceDescriptor, table: Rpcs) -> grpc.GenericRpcHandler:
    """Make the handlers of all RPCs of a service; raise Internal if `table` names one that it does not have."""
    unknown = table.keys() - {method.name for method in service.methods}
    if unknown:
        raise Internal(f"{service.full_name} has no RPCs {sorted(unknown)}")
    return grpc.method_handlers_generic_handler(
        service.full_name, {method.name: _handler(front, method, table.get(method.name)) for method in service.methods}
    )


def _handler(
    front: Front, method: MethodDescriptor, serve: Serve | ServeStream | None
) -> grpc.RpcMethodHandler[Message, Message | bytes]:
    parse = _parser(GetMessageClass(method.input_type))
    if method.server_streaming:
        stream = cast("ServeStream", serve or interceptor.unserved_stream)
        return grpc.unary_stream_rpc_method_handler(interceptor.stream(front, method.name, stream), parse, _serialise)
    unary = cast("Serve", serve or interceptor.unserved)
    return grpc.unary_unary_rpc_method_handler(interceptor.unary(front, method.name, unary), parse, _serialise)


def _parser(kind: type[Message]) -> Callable[[bytes], Message]:
    """Make a parser that returns its error in the request's place, for the interceptor; gRPC would answer UNKNOWN."""

    def parse(data: bytes) -> Message | DecodeError:
        try:
            return kind.FromString(data)
        except DecodeError as error:
            return error

    return cast("Callable[[bytes], Message]", parse)


def _serialise(reply: Message | bytes) -> bytes:
    """Serialise a reply, unless the RPC has returned it serialised already."""
    return reply if isinstance(reply, bytes) else reply.SerializeToString()
