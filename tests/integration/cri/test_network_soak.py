"""Pods come and go while the network worker is killed every second: no call fails, and nothing is left on the host.

As many sandboxes as CRISP_TEST_SOAK says; a few where it says nothing.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from kernel.cri.generated import cri_pb2 as pb
from tests.harness import host
from tests.harness.cri import Cri, pod_config
from tests.harness.daemon import Daemon

SANDBOXES = int(os.environ.get("CRISP_TEST_SOAK", "24"))
LIMIT = 200 * host.SLOWNESS
FIRST_PORT = 21000


@contextmanager
def killing(daemon: Daemon, worker: str) -> Iterator[list[int]]:
    """SIGKILL to the worker, if it is there, at once and then every second."""
    killed: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        while True:
            with suppress(KeyError, ProcessLookupError, FileNotFoundError, json.JSONDecodeError):  # it is away already
                killed.append(daemon.kill(worker))
            if ended.wait(1):
                return

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def life(daemon: Daemon, cri: Cri, number: int) -> None:
    """A pod from RunPodSandbox to RemovePodSandbox; every third has host ports."""
    ports = [
        pb.PortMapping(protocol=protocol, container_port=80, host_port=FIRST_PORT + number)
        for protocol in (pb.TCP, pb.UDP)
        if number % 3 == 0
    ]
    config = pod_config(daemon.logs, f"soak-{number}", port_mappings=ports)
    sandbox = cri.run_pod(config, limit=LIMIT)
    assert cri.pod(sandbox).network.ip
    cri.stop_pod(sandbox, limit=LIMIT)
    cri.call("RemovePodSandbox", pod_sandbox_id=sandbox, limit=LIMIT)


def test_nothing_is_left_of_pods_whose_network_worker_was_killed(daemon: Daemon, cri: Cri) -> None:
    began = time.monotonic()
    with killing(daemon, "network") as killed, ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: life(daemon, cri, number), range(SANDBOXES)))
    taken = time.monotonic() - began
    print(f"{SANDBOXES} sandboxes in {taken:.0f} s, the network worker was killed {len(killed)} times")
    assert killed
    host.until("the network worker is back", lambda: daemon.workers()["network"], 60)
    host.until("all is taken away", lambda: not daemon.leaks(), 60)
    assert daemon.command("net", "--json", limit=120).stdout.strip() == "[]"
    assert daemon.command("doctor", limit=120).stdout == "everything on this host has an owner\n"
    assert not list((daemon.root / "network").glob("*"))
