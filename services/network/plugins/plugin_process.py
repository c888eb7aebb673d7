"""One plugin's process: its configuration on stdin, bounded output, a deadline, and nothing left of it afterwards.

A plugin is done when its own process ends, even if a child of it keeps the output open: such a child is killed with the
plugin's process group. A process that leaves the group by setsid(2) on purpose, such as a DHCP daemon, lives on.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from kernel.errors import DeadlineExceeded
from kernel.host import process
from kernel.host.aio import Deadline

OUTPUT_LIMIT = 1 << 20
_LINGER = 0.2
"""Seconds in which output that is still in the pipe is read after the plugin has ended."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A plugin's exit and output. At most OUTPUT_LIMIT bytes and one more of each stream are kept."""

    returncode: int
    stdout: bytes
    stderr: bytes


class _Output:
    """The reading end of a pipe that the plugin writes to."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reading, self.writing = os.pipe2(os.O_CLOEXEC)
        self._kept = bytearray()
        self.ended = asyncio.Event()
        os.set_blocking(self._reading, False)
        self._loop.add_reader(self._reading, self._read)

    def _read(self) -> None:
        try:
            chunk = os.read(self._reading, 1 << 16)
        except BlockingIOError:
            return
        self._kept += chunk[: OUTPUT_LIMIT + 1 - len(self._kept)]
        if not chunk:
            self._loop.remove_reader(self._reading)
            self.ended.set()

    def close_writing(self) -> None:
        """Close our writing end once the plugin has inherited its own; does nothing the second time."""
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def close(self) -> bytes:
        """Close the pipe and return the bytes that were read."""
        self.close_writing()
        self._loop.remove_reader(self._reading)
        os.close(self._reading)
        return bytes(self._kept)


async def run(binary: str, stdin: bytes, env: Mapping[str, str], *, deadline: Deadline, lock_fd: int) -> Answer:
    """Run a plugin to its end. DeadlineExceeded if it does not end in time; its process group is killed then.

    `lock_fd`: a descriptor that the plugin and all that it starts inherit (`plugin_lock`).
    """
    stdout, stderr = _Output(), _Output()
    try:
        with os.fdopen(os.memfd_create("cni"), "wb", buffering=0) as source:
            source.write(stdin)
            source.seek(0)
            plugin = process.launch(
                [binary],
                stdin=source.fileno(),
                stdout=stdout.writing,
                stderr=stderr.writing,
                env=env,
                pass_fds=(lock_fd,),
            )
        stdout.close_writing()
        stderr.close_writing()
        returncode = await _wait(plugin, deadline)
        with suppress(TimeoutError):  # a child of the plugin holds the output open
            async with asyncio.timeout(_LINGER):
                await stdout.ended.wait()
                await stderr.ended.wait()
        if not (stdout.ended.is_set() and stderr.ended.is_set()):
            _LOG.warning("plugin %s: a child of it keeps its output open and is killed", binary)
            process.kill_group(plugin)
    finally:
        out, err = stdout.close(), stderr.close()
    return Answer(returncode=returncode, stdout=out, stderr=err)


async def _wait(plugin: process.Child, deadline: Deadline) -> int:
    try:
        async with asyncio.timeout(max(deadline.remaining(), 0)):
            return await plugin.wait()
    except TimeoutError as error:
        raise DeadlineExceeded("did not end in time and was killed") from error
    finally:
        if plugin.returncode is None:
            process.kill_group(plugin)
            await plugin.wait()
