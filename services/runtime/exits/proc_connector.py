"""Exit codes of processes that are not this worker's children, from the kernel's process events (linux/cn_proc.h).

Run by the runtime worker on its event loop. Rules kept: the kernel sends events only while `listen` is in use, and of
these only the ends of whole processes, because the forks, execs and threads of a busy host would cost too much. Some
kernels have no such connector, and every kernel sends nothing to a process in a pid, user or network namespace other
than the first: then `speaks` is false, no exit code becomes known, and nothing fails. An end from before `listen` is
not taken for that of a later process with the same pid.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kernel.host import syscalls

_LOG = logging.getLogger(__name__)
_NETLINK_CONNECTOR = 11
_CN_PROC = 1
"""CN_IDX_PROC and CN_VAL_PROC."""
_NLMSG_DONE = 3
_LISTEN, _IGNORE = 1, 2
_ANSWER, _EXIT = 0, 0x80000000
"""PROC_EVENT_NONE, the kernel's answer to `_LISTEN` and `_IGNORE`, and PROC_EVENT_EXIT."""
_NETLINK_HEADER = struct.Struct("=IHHII")
_CONNECTOR_HEADER = struct.Struct("=IIIIHH")
_EVENT = struct.Struct("=IIQIII")
"""Kind, processor, time; of an exit: thread, process (thread group), status; of an answer: an error number."""
_EVENT_AT = _NETLINK_HEADER.size + _CONNECTOR_HEADER.size
_MESSAGES = itertools.count(1)
_BUFFER = 1 << 20


def _instruction(code: int, value: int = 0, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)


_LOAD, _TO_X, _EQUALS, _EQUALS_X, _RETURN = 0x20, 0x07, 0x15, 0x1D, 0x06
"""BPF_LD|BPF_W|BPF_ABS, BPF_MISC|BPF_TAX, BPF_JMP|BPF_JEQ with BPF_K and BPF_X, BPF_RET|BPF_K (linux/filter.h)."""
ENDS_ALONE = b"".join((
    _instruction(_LOAD, _EVENT_AT),
    _instruction(_EQUALS, _ANSWER, 5, 0),
    _instruction(_EQUALS, socket.htonl(_EXIT), 0, 5),  # loads are in network order, the event is in ours
    _instruction(_LOAD, _EVENT_AT + 16),
    _instruction(_TO_X),
    _instruction(_LOAD, _EVENT_AT + 20),
    _instruction(_EQUALS_X, 0, 0, 1),
    _instruction(_RETURN, 0xFFFFFFFF),
    _instruction(_RETURN, 0),
))  # fmt: skip
"""A filter that passes the kernel's answers, and exits whose thread is the first of its process."""


class ProcConnector:
    """One subscription, shared by all calls of `listen`."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._listeners: list[int] = []
        """The start of each `listen`: nanoseconds of CLOCK_MONOTONIC, the clock by which the kernel dates events."""
        self._codes: dict[int, tuple[int, int]] = {}
        """Exit code and time of the exit, by pid."""
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._reading = False

    @property
    def speaks(self) -> bool:
        """Whether the kernel reports ends to this process; known only during `listen`."""
        return self._socket is not None

    @contextmanager
    def listen(self) -> Iterator[int]:
        """Note the end of every process while the body runs. Yields the time at which that began.

        The events stay in the kernel's buffer until `exit_code` is called, which most commands do not need. Call `read`
        to listen for long: the buffer holds a thousand or two.
        """
        since = time.monotonic_ns()
        self._listeners.append(since)
        if len(self._listeners) == 1:
            self._subscribe()
        elif self._socket is not None:
            self._on_events(self._socket)  # makes room in the buffer
        try:
            yield since
        finally:
            self._listeners.remove(since)
            if not self._listeners:
                self._unsubscribe()
            elif since < (oldest := min(self._listeners)):
                self._codes = {pid: one for pid, one in self._codes.items() if one[1] >= oldest}

    def read(self) -> None:
        """Take events from the buffer as they come, until the last `listen` ends."""
        if self._socket is not None and not self._reading:
            # by number: for a socket object asyncio would first ask the kernel for its name, to log it
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._on_events, self._socket)
            self._reading = True

    async def exit_code(self, pid: int, since: int) -> int:
        """Return the exit code, as a shell counts it, of a process that ends after `since`.

        `since` is the time that `listen` yielded, and the caller is still in its body. The caller bounds the wait.
        """
        self.read()
        if self._socket is not None:
            self._on_events(self._socket)
        code, at = self._codes.get(pid, (0, -1))
        if at < since:
            waiting = self._waiting.setdefault(pid, asyncio.get_running_loop().create_future())
            return await asyncio.shield(waiting)
        return code

    def _subscribe(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_CONNECTOR)
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._socket.bind((0, _CN_PROC))
            with suppress(OSError):  # without the filter all events come, and `_on_event` skips all that are no ends
                syscalls.attach_filter(self._socket.fileno(), ENDS_ALONE)
            if not self._is_accepted(self._socket, self._send(self._socket, _LISTEN)):
                _LOG.debug("process events: none in these namespaces")
                self._close()
        except OSError as error:
            _LOG.debug("process events: none from this kernel: %s", error.strerror)
            self._close()

    def _is_accepted(self, connector: socket.socket, number: int) -> bool:
        """Return whether the kernel has answered the subscription: it does so before `send` returns, or never."""
        while True:
            try:
                message = connector.recv(4096)
            except BlockingIOError:
                return False
            except OSError:  # so many ends came at once that some were lost: then there are events
                return True
            if len(message) < _EVENT_AT + _EVENT.size:
                continue
            kind, _, _, error, _, _ = _EVENT.unpack_from(message, _EVENT_AT)
            answered = _CONNECTOR_HEADER.unpack_from(message, _NETLINK_HEADER.size)[3]
            if kind == _ANSWER and answered == number:
                return bool(error == 0)
            self._on_event(message)

    def _unsubscribe(self) -> None:
        if self._socket is not None:
            if self._reading:
                asyncio.get_running_loop().remove_reader(self._socket.fileno())
                self._reading = False
            self._send(self._socket, _IGNORE)
        self._close()
        self._codes.clear()
        for waiting in self._waiting.values():
            waiting.cancel()
        self._waiting.clear()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, connector: socket.socket, operation: int) -> int:
        """Send an operation. Return the acknowledgement number of its answer: answers to other senders come too."""
        number = (os.getpid() << 16 | next(_MESSAGES) & 0xFFFF) & 0xFFFFFFFF
        body = _CONNECTOR_HEADER.pack(_CN_PROC, _CN_PROC, 0, number, 4, 0) + struct.pack("=I", operation)
        header = _NETLINK_HEADER.pack(_NETLINK_HEADER.size + len(body), _NLMSG_DONE, 0, 0, os.getpid())
        connector.send(header + body)
        return (number + 1) & 0xFFFFFFFF

    def _on_events(self, connector: socket.socket) -> None:
        while True:
            try:
                message = connector.recv(4096)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # too many came at once: for those that were lost, their listeners wait until their own timeouts
                _LOG.debug("process events: some were lost: %s", error.strerror)
                continue
            self._on_event(message)

    def _on_event(self, message: bytes) -> None:
        if len(message) < _EVENT_AT + _EVENT.size:
            return
        kind, _, at, thread, process, status = _EVENT.unpack_from(message, _EVENT_AT)
        if kind != _EXIT or thread != process:
            return
        code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        self._codes[process] = (code, at)
        waiting = self._waiting.pop(process, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(code)
