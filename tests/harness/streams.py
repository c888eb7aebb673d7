"""Clients of the stream server, which behave like the kubelet, crictl and kubectl: SPDY/3.1 over a blocking socket.

They use crisp's own framing, as the other side of it. `strict` clients announce their windows, and keep to the
server's.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections import defaultdict
from urllib.parse import urlsplit

from kernel.stream.wires import spdy
from tests.harness import host

LIMIT = 30.0


def connect(url: str, tls: ssl.SSLContext | None = None) -> socket.socket:
    """Return a connection to the server that a URL names."""
    parts = urlsplit(url)
    end = socket.create_connection((parts.hostname, parts.port), LIMIT * host.SLOWNESS)
    return tls.wrap_socket(end, server_hostname=parts.hostname) if tls else end


def ask(url: str, *headers: str, method: str = "POST") -> bytes:
    """Return a request for a URL."""
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {parts.netloc}", *headers, "", ""]).encode()


def answer(end: socket.socket) -> tuple[int, bytes, bytes]:
    """Return the status, the head, and the bytes after it."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = end.recv(65536)
        if not piece:
            break
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, head, rest


class Refused(Exception):
    """The server has answered with this status."""


class Spdy:
    """A client's connection after the upgrade."""

    def __init__(self, url: str, protocol: str = "v4.channel.k8s.io", *, strict: bool = False, tls=None) -> None:
        self.socket = connect(url, tls)
        wanted = (f"X-Stream-Protocol-Version: {one}" for one in protocol.split(","))
        try:
            self.socket.sendall(ask(url, "Connection: Upgrade", "Upgrade: SPDY/3.1", *wanted))
            status, self.head, rest = answer(self.socket)
            if status != 101:
                raise Refused(status, self.head + b"\r\n\r\n" + rest)
        except BaseException:  # a server that requires a certificate refuses after the handshake, as TLS 1.3 defines it
            self.socket.close()
            raise
        self.spdy = spdy.Connection(server=False)
        self.received: dict[int, bytearray] = defaultdict(bytearray)
        self.ended: set[int] = set()
        self.replied: set[int] = set()
        self.resets: dict[int, int] = {}
        self.gone = False
        self.eof = False
        self.strict = strict
        if strict:
            self.socket.sendall(self.spdy.settings(spdy.WINDOW))
        if rest:
            self._take(rest)

    def __enter__(self) -> Spdy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def open(self, **headers: str) -> int:
        """Open a stream."""
        stream, frame = self.spdy.open(headers)
        self.socket.sendall(frame)
        return stream

    def send(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        """Send bytes on a stream; a strict client waits for the server's windows."""
        view = memoryview(data)
        while view or fin:
            room = min(len(view), 1 << 18)
            if self.strict:
                room = min(room, self.room(stream)) if view else 0
                if view and not room:
                    self.pump()
                    continue
            last = fin and room == len(view)
            self.socket.sendall(self.spdy.data(stream, room, fin=last) + bytes(view[:room]))
            view = view[room:]
            if last or (not view and not fin):
                break

    def room(self, stream: int) -> int:
        """Return the bytes that the server's windows permit."""
        streams = self.spdy._streams
        return max(min(streams.get(stream).window, streams._window), 0)

    def pump(self) -> bool:
        """Handle the server's next bytes; return False at its end."""
        data = self.socket.recv(1 << 18)
        if not data:
            self.eof = True
            return False
        self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        for event in self.spdy.receive(memoryview(data), time.monotonic()):
            match event:
                case spdy.Data(stream, piece, fin):
                    self.received[stream] += piece
                    if self.strict:
                        self.spdy.consumed(stream, len(piece))
                    if fin:
                        self.ended.add(stream)
                case spdy.Replied(stream):
                    self.replied.add(stream)
                case spdy.Reset(stream, status):
                    self.resets[stream] = status
                case spdy.GoneAway():
                    self.gone = True
        replies = self.spdy.replies()
        if replies:
            self.socket.sendall(replies)

    def until(self, stream: int, text: bytes) -> bytes:
        """Return the bytes received on a stream once they contain a text."""
        while text not in self.received[stream]:
            assert self.pump(), f"ended with {bytes(self.received[stream])!r}"
        return bytes(self.received[stream])

    def drain(self, *streams: int) -> None:
        """Wait until the streams, or else the connection, have ended."""
        while not (streams and self.ended.issuperset(streams)) and self.pump():
            pass


class Command(Spdy):
    """An exec or attach with its streams made."""

    def __init__(
        self, url: str, *, stdin=False, stdout=True, stderr=True, tty=False, protocol="v4.channel.k8s.io", **more
    ) -> None:
        super().__init__(url, protocol, **more)
        wanted = {"error": True, "stdin": stdin, "stdout": stdout, "stderr": stderr and not tty, "resize": tty}
        self.streams = {name: self.open(streamtype=name) for name, yes in wanted.items() if yes}

    def write(self, data: bytes, *, fin: bool = False) -> None:
        self.send(self.streams["stdin"], data, fin=fin)

    def resize(self, width: int, height: int) -> None:
        self.send(self.streams["resize"], json.dumps({"Width": width, "Height": height}).encode())

    def output(self, name: str = "stdout") -> bytes:
        return bytes(self.received[self.streams[name]])

    def result(self) -> dict:
        """Return the status, once all bytes have arrived."""
        self.drain(*(stream for name, stream in self.streams.items() if name in ("error", "stdout", "stderr")))
        return json.loads(self.received[self.streams["error"]])

    def exit_code(self) -> int:
        """Return the exit code by the status."""
        found = self.result()
        if found["status"] == "Success":
            return 0
        assert found["reason"] == "NonZeroExitCode", found
        return int(found["details"]["causes"][0]["message"])


class Forward(Spdy):
    """A client of a port-forward."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "portforward.k8s.io")
        self.requests = 0

    def pair(self, port: int) -> tuple[int, int]:
        """Open the error stream, which it ends at once as kubectl does, and the data stream; return both."""
        given = {"port": str(port), "requestid": str(self.requests)}
        self.requests += 1
        error = self.open(streamtype="error", **given)
        self.send(error, b"", fin=True)
        return error, self.open(streamtype="data", **given)
