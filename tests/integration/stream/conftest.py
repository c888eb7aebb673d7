"""The stream service in this process, on its own port, with the test in the front's, runtime's and network's place."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from kernel.config.sections import Config, StreamSection
from kernel.contracts.stream import Dial, Ended, ExpectRequest, Kind, Opened, Passed, Role, Waiting
from kernel.host import fdpass
from kernel.host.aio import Deadline, Tasks
from kernel.ids import SessionId, new_session
from kernel.stream.methods import StreamService

TARGET = "c" * 64


class Call:
    """A bus call, as far as the service looks at it."""

    def __init__(self, events: asyncio.Queue[object]) -> None:
        self._events = events

    async def progress(self, message: object) -> None:
        self._events.put_nowait(message)


def telling(status: int) -> list[str]:
    """What runs a command and writes its exit code to a descriptor. No Python runs between fork and exec: a collection
    of garbage there could close anything."""
    return ["sh", "-c", 'status=$1; shift; "$@"; echo $? >/proc/self/fd/$status', "sh", str(status)]


class Stream:
    """The service and what the other processes do to it."""

    def __init__(self, folder: Path, **section: object) -> None:
        (folder / "stream").mkdir(exist_ok=True)
        self.folder = folder
        self.closed = False
        self.config = Config(root=str(folder), run=str(folder), stream=StreamSection(**section))
        self.service = StreamService(self.config)
        self.events: asyncio.Queue[object] = asyncio.Queue()
        self.tasks = Tasks()
        self.tasks.spawn(self.service.watch(None, Call(self.events)), "watch")

    async def url(self, kind: Kind = Kind.EXEC, *, seconds: float = 60.0, **fields: object) -> str:
        """A URL that a client may use."""
        session = new_session()
        given = {"stdout": True, "stderr": True} if kind is not Kind.PORT_FORWARD else {}
        expires = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(seconds * 1e9)
        request = ExpectRequest(session=session, kind=kind, target=TARGET, expires_ns=expires, **{**given, **fields})
        place = await self.service.expect(request, None)
        return f"{place.base_url}/{kind.value}/{session}"

    async def heard(self, kind: type) -> Opened | Dial | Ended:
        """The next event of a kind."""
        async with asyncio.timeout(20):
            while True:
                event = await self.events.get()
                if isinstance(event, kind):
                    return event
                assert isinstance(event, Waiting | Opened | Dial | Ended)

    async def give(self, session: SessionId, fds: dict[Role, int], connection: int = 0) -> None:
        """Hand descriptors over, as the runtime or the network worker does."""
        passed = Passed(session=session, connection=connection, roles=tuple(fds))
        try:
            await fdpass.send(self.config.paths.stream_fds, passed.encode(), list(fds.values()), Deadline.after(10))
        finally:
            for fd in fds.values():
                os.close(fd)

    async def run(self, *argv: str, stdin: bool = True) -> subprocess.Popen[bytes]:
        """A command for the session that is opened next, as the runtime makes one."""
        opened = await self.heard(Opened)
        pipes = {role: os.pipe() for role in (Role.STDIN, Role.STDOUT, Role.STDERR, Role.STATUS)}
        started = subprocess.Popen(
            [*telling(pipes[Role.STATUS][1]), *argv],
            stdin=pipes[Role.STDIN][0],
            stdout=pipes[Role.STDOUT][1],
            stderr=pipes[Role.STDERR][1],
            pass_fds=(pipes[Role.STATUS][1],),
        )
        ours = {role: pair[1 if role is Role.STDIN else 0] for role, pair in pipes.items()}
        for role, pair in pipes.items():
            os.close(pair[0 if role is Role.STDIN else 1])
        if not stdin:
            os.close(ours.pop(Role.STDIN))
        await self.give(opened.session, ours)
        return started

    async def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        await self.tasks.close()
        await self.service.close()


@pytest.fixture
async def make(tmp_path_factory) -> AsyncIterator[Callable[..., Stream]]:
    made: list[Stream] = []

    def maker(**section: object) -> Stream:
        # A unix socket's path has 108 bytes.
        made.append(Stream(Path(tempfile.mkdtemp(prefix="cs-", dir="/tmp")), **section))
        return made[-1]

    yield maker
    for one in made:
        await one.close()
        subprocess.run(["rm", "-rf", str(one.folder)], check=True)


@pytest.fixture
async def stream(make) -> Stream:
    return make()
