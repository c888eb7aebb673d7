"""`crisp exec -i`, `exec -t` and `attach`: a command's or container's input and output at this terminal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from argparse import Namespace
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress

from kernel.cli import lookup, terminal
from kernel.cli.context import Context
from kernel.cli.exit_status import Exit
from kernel.cli.spdy_client import SpdyClient
from kernel.cri.generated import cri_pb2
from kernel.errors import FailedPrecondition, Internal, InvalidInput
from kernel.host.aio import Tasks, report_lost_errors

_PROTOCOL = "v4.channel.k8s.io"
_PIECE = 32 << 10


def execute(context: Context, options: Namespace) -> int:
    """Run a command with this terminal, or standard input; the exit status is the command's."""
    if options.timeout:
        raise InvalidInput("--timeout goes with neither -i nor -t")
    _need_terminal(options)
    daemon = context.daemon
    found = lookup.container(daemon, options.container)
    request = cri_pb2.ExecRequest(
        container_id=found.id, cmd=options.command, tty=options.tty, stdin=options.interactive, stdout=True,
        stderr=not options.tty,
    )  # fmt: skip
    url = daemon.call(daemon.runtime.Exec, request).url
    attended = TerminalSession(context, stdin=options.interactive, tty=options.tty)
    return asyncio.run(attended.run(url))


def attach(context: Context, options: Namespace) -> int:
    """Show a container's output, and give it this input, until it ends."""
    daemon = context.daemon
    found = lookup.container(daemon, options.container)
    status_request = cri_pb2.ContainerStatusRequest(container_id=found.id, verbose=True)
    spec = json.loads(daemon.call(daemon.runtime.ContainerStatus, status_request).info["info"]).get("runtimeSpec", {})
    options.tty = bool(spec.get("process", {}).get("terminal"))
    options.interactive = not options.no_stdin
    if options.interactive:
        _need_terminal(options)
    request = cri_pb2.AttachRequest(
        container_id=found.id, tty=options.tty, stdin=options.interactive, stdout=True, stderr=not options.tty
    )
    url = daemon.call(daemon.runtime.Attach, request).url
    attended = TerminalSession(context, stdin=options.interactive, tty=options.tty, detach=options.tty)
    return asyncio.run(attended.run(url))


def _need_terminal(options: Namespace) -> None:
    if options.tty and options.interactive and not os.isatty(0):
        raise FailedPrecondition("standard input is no terminal", hint="leave out -t")


class TerminalSession:
    """One session at this terminal, or on standard input and output."""

    def __init__(self, context: Context, *, stdin: bool, tty: bool, detach: bool = False) -> None:
        self._context = context
        self._stdin = stdin
        self._tty = tty
        self._keys = terminal.DetachKeys() if detach else None
        self._status_text = bytearray()
        """The bytes received on the error stream: a Kubernetes Status."""
        self._left = False
        """Whether the user has typed the keys that end the session."""
        self._tasks = Tasks()

    async def run(self, url: str) -> int:
        """Run until the end, and return the exit status."""
        report_lost_errors()
        self._client = client = await SpdyClient.connect(url, _PROTOCOL, self._context.config.stream)
        names = ["error", *(["stdin"] if self._stdin else []), "stdout", *(["resize"] if self._tty else ["stderr"])]
        self._streams = {name: client.open(streamtype=name) for name in names}
        loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            if self._tty and os.isatty(0):
                if self._stdin:
                    stack.enter_context(terminal.raw(0))
                await self._send_size()
                loop.add_signal_handler(signal.SIGWINCH, self._on_resize)
            if self._stdin:
                # A daemon thread: a read of a terminal cannot be cancelled.
                threading.Thread(target=self._read, args=(loop,), daemon=True).start()
            await client.receive(self._on_data)
        await self._tasks.close()
        client.close()
        return self._status()

    def _on_data(self, stream: int, data: memoryview, fin: bool) -> None:
        self._client.consumed(stream, len(data))
        if stream == self._streams["error"]:
            self._status_text += data
            return
        to = 2 if stream == self._streams.get("stderr") else 1
        while data:
            data = data[os.write(to, data) :]

    def _status(self) -> int:
        if self._left:
            return Exit.OK
        if not self._status_text:
            raise Internal("the session was cut off", hint="see `crisp workers`, and the daemon's log")
        found = json.loads(self._status_text)
        if found.get("status") == "Success":
            return Exit.OK
        for cause in found.get("details", {}).get("causes", []):
            if cause.get("reason") == "ExitCode":
                return int(cause["message"])
        raise Internal(found.get("message", "it failed"))

    def _on_resize(self) -> None:
        self._tasks.spawn(self._send_size(), "send size")

    async def _send_size(self) -> None:
        width, height = terminal.size(0)
        with suppress(ConnectionError):  # the session has ended meanwhile, which `receive` notices
            await self._client.send(self._streams["resize"], json.dumps({"Width": width, "Height": height}).encode())

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send typed keys, as fast as the server takes them."""
        stdin = self._streams["stdin"]
        while True:
            try:
                data = os.read(0, _PIECE)
            except OSError as error:
                self._context.out.note(f"crisp: standard input cannot be read: {error.strerror}")
                data = b""
            ended = not data
            if self._keys is not None:
                data, self._left = self._keys.feed(data)
            try:
                asyncio.run_coroutine_threadsafe(self._client.send(stdin, data, fin=ended), loop).result()
                if self._left:
                    loop.call_soon_threadsafe(self._client.close)
            except (RuntimeError, CancelledError, OSError):  # the session has ended meanwhile
                return
            if ended or self._left:
                return
