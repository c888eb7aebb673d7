"""Speed through `cat`, against the same bytes through a socket, two pipes and `cat` without any protocol."""

from __future__ import annotations

import asyncio
import resource
import socket
import subprocess
import sys
import time

from tests.harness.daemon import CHECKOUT
from tests.harness.stream_speed import relay

MEBIBYTES = 256
LEAST = 200e6
"""Bytes a second there and back, by the server's own CPU time."""


async def measure(url: str) -> float:
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.harness.stream_speed", url, str(MEBIBYTES), cwd=CHECKOUT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await client.communicate()
    assert client.returncode == 0, err.decode()
    return float(out)


async def test_speed_and_memory(stream, record_property) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relaying = asyncio.create_task(asyncio.to_thread(relay, listener))
        by_hand = await measure(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        await relaying
    url = await stream.url(stdin=True)
    before, busy = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    client = asyncio.create_task(measure(url))
    started = await stream.run("cat")
    speed = await client
    started.wait()
    # What the machine leaves to a process is its own affair: what this one takes of it is not.
    own = (MEBIBYTES << 20) / (time.process_time() - busy)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    record_property("bytes per second", speed)
    print(
        f"by hand {by_hand / 1e6:.0f} MB/s, exec {speed / 1e6:.0f} MB/s, {own / 1e6:.0f} MB for a second of the "
        f"server's CPU, memory grew by {grown} MiB"
    )
    assert own > LEAST
    assert grown < 16
