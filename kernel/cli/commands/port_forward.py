"""`crisp port-forward`: forward ports of this host into a pod."""

from __future__ import annotations

import asyncio
import re
from argparse import Namespace
from contextlib import suppress

from kernel.cli import lookup
from kernel.cli.context import Context
from kernel.cli.exit_status import Exit
from kernel.cli.spdy_client import SpdyClient
from kernel.cri.generated import cri_pb2
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.host.aio import Tasks, report_lost_errors

_PROTOCOL = "portforward.k8s.io"
_PORTS = re.compile(r"(?:([0-9]{0,5}):)?([0-9]{1,5})", re.ASCII)
_PIECE = 64 << 10


def port_forward(context: Context, options: Namespace) -> Exit:
    """Listen until interrupted, and forward each connection to the pod's port."""
    pairs = [ports(text) for text in options.port]
    daemon = context.daemon
    pod = lookup.pick(lookup.pods(daemon), options.pod, "pod")
    request = cri_pb2.PortForwardRequest(pod_sandbox_id=pod.id, port=[remote for _, remote in pairs])
    url = daemon.call(daemon.runtime.PortForward, request).url
    return asyncio.run(Forwarding(context, options.address).run(url, pairs))


def ports(text: str) -> tuple[int, int]:
    """Parse `[LOCAL:]REMOTE` into the ports of this host and of the pod. An empty LOCAL is 0: any free port."""
    found = _PORTS.fullmatch(text)
    if found:
        remote = int(found[2])
        local = remote if found[1] is None else int(found[1] or 0)
        if 1 <= remote <= 65535 and local <= 65535:
            return local, remote
    raise InvalidInput(f"{text!r} is not [LOCAL:]REMOTE", hint="ports are numbers from 1 to 65535")


class Forwarding:
    """One session with its listeners."""

    def __init__(self, context: Context, address: str) -> None:
        self._context = context
        self._address = address
        self._requests = 0
        self._writers: dict[int, asyncio.StreamWriter] = {}
        """This host's connections by the id of their data stream."""
        self._errors: dict[int, bytearray] = {}
        """The bytes received on each error stream, by its id."""
        self._tasks = Tasks()

    async def run(self, url: str, pairs: list[tuple[int, int]]) -> Exit:
        """Forward until the daemon ends the session."""
        report_lost_errors()
        self._client = await SpdyClient.connect(url, _PROTOCOL, self._context.config.stream)
        listeners = []
        for local, remote in pairs:
            listener = await self._listen(local, remote)
            name, port = listener.sockets[0].getsockname()[:2]
            self._context.out.note(f"{name}:{port} is forwarded to port {remote} of the pod")
            listeners.append(listener)
        try:
            await self._client.receive(self._on_data)
        finally:
            for listener in listeners:
                listener.close()
            await self._tasks.close()
            self._client.close()
        raise FailedPrecondition("the session has ended", hint="see `crisp pods` and `crisp workers`")

    async def _listen(self, local: int, remote: int) -> asyncio.Server:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._connected(reader, writer, remote)

        try:
            return await asyncio.start_server(connected, self._address, local)
        except OSError as error:
            raise FailedPrecondition(f"port {local} of {self._address} cannot be used: {error.strerror}") from error

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, remote: int) -> None:
        given = {"port": str(remote), "requestid": str(self._requests)}
        self._requests += 1
        error = self._client.open(streamtype="error", **given)
        await self._client.send(error, b"", fin=True)
        data = self._client.open(streamtype="data", **given)
        self._errors[error], self._writers[data] = bytearray(), writer
        try:
            while piece := await reader.read(_PIECE):
                await self._client.send(data, piece)
            await self._client.send(data, b"", fin=True)
        except ConnectionError:
            self._client.reset(data)

    def _on_data(self, stream: int, data: memoryview, fin: bool) -> None:
        if stream in self._errors:
            self._errors[stream] += data
            self._client.consumed(stream, len(data))
            if fin and (message := self._errors.pop(stream)):
                self._context.out.note(f"crisp: {message.decode(errors='replace')}")
        elif (writer := self._writers.get(stream)) is not None:
            writer.write(bytes(data))
            self._tasks.spawn(self._deliver(stream, writer, len(data)), "deliver")
            if fin:
                del self._writers[stream]
                writer.close()

    async def _deliver(self, stream: int, writer: asyncio.StreamWriter, size: int) -> None:
        """Allow the pod's side to send more once this host's connection has taken the received data."""
        with suppress(ConnectionError):  # the connection is closed, and received data is dropped
            await writer.drain()
        self._client.consumed(stream, size)
