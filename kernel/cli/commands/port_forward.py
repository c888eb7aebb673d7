"""`crisp port-forward`: ports of this host that lead into a pod."""

from __future__ import annotations

import asyncio
import re
from argparse import Namespace
from contextlib import suppress

from kernel.cli import lookup
from kernel.cli.context import Session
from kernel.cli.exits import Exit
from kernel.cli.spdy_client import SpdyClient
from kernel.cri.generated import cri_pb2
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.host.aio import Tasks

_PROTOCOL = "portforward.k8s.io"
_PORTS = re.compile(r"(?:([0-9]{0,5}):)?([0-9]{1,5})", re.ASCII)
_PIECE = 64 << 10


def port_forward(session: Session, options: Namespace) -> Exit:
    """Listen, until interrupted, and lead each connection to the pod's port."""
    pairs = [ports(text) for text in options.port]
    daemon = session.daemon
    pod = lookup.pick(lookup.pods(daemon), options.pod, "pod")
    request = cri_pb2.PortForwardRequest(pod_sandbox_id=pod.id, port=[remote for _, remote in pairs])
    url = daemon.call(daemon.runtime.PortForward, request).url
    return asyncio.run(Forward(session, options.address).run(url, pairs))


def ports(text: str) -> tuple[int, int]:
    """`[LOCAL:]REMOTE`: this host's and the pod's; any free one of this host's where LOCAL is empty."""
    found = _PORTS.fullmatch(text)
    if found:
        remote = int(found[2])
        local = remote if found[1] is None else int(found[1] or 0)
        if 1 <= remote <= 65535 and local <= 65535:
            return local, remote
    raise InvalidInput(f"{text!r} is not [LOCAL:]REMOTE", hint="ports are numbers from 1 to 65535")


class Forward:
    """One session with its listeners."""

    def __init__(self, session: Session, address: str) -> None:
        self._session = session
        self._address = address
        self._requests = 0
        self._writers: dict[int, asyncio.StreamWriter] = {}
        """Of this host's connections, by data stream."""
        self._errors: dict[int, bytearray] = {}
        self._tasks = Tasks()

    async def run(self, url: str, pairs: list[tuple[int, int]]) -> Exit:
        """Until the daemon's side ends."""
        self._client = await SpdyClient.connect(url, _PROTOCOL, self._session.config.stream)
        listeners = []
        for local, remote in pairs:
            listener = await self._listen(local, remote)
            name, port = listener.sockets[0].getsockname()[:2]
            self._session.out.note(f"{name}:{port} leads to port {remote} of the pod")
            listeners.append(listener)
        try:
            await self._client.receive(self._heard)
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
            raise FailedPrecondition(f"port {local} of {self._address} cannot be had: {error.strerror}") from error

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

    def _heard(self, stream: int, data: memoryview, fin: bool) -> None:
        if stream in self._errors:
            self._errors[stream] += data
            self._client.consumed(stream, len(data))
            if fin and (said := self._errors.pop(stream)):
                self._session.out.note(f"crisp: {said.decode(errors='replace')}")
        elif (writer := self._writers.get(stream)) is not None:
            writer.write(bytes(data))
            self._tasks.spawn(self._deliver(stream, writer, len(data)), "deliver")
            if fin:
                del self._writers[stream]
                writer.close()

    async def _deliver(self, stream: int, writer: asyncio.StreamWriter, size: int) -> None:
        """The pod may send more once this host's side has taken what it has."""
        with suppress(ConnectionError):  # it has gone, and takes all
            await writer.drain()
        self._client.consumed(stream, size)
