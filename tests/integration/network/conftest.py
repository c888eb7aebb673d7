"""A host of its own for each test: a network namespace that stands for the host's, real plugins, and a leak check.

The test's thread, and so every program that it starts, is in that namespace: rules, links and host ports are the
test's alone, and a live daemon is not disturbed.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from kernel.config.sections import Config, NetworkSection
from kernel.contracts.definition import Message
from kernel.contracts.network import Attached, AttachRequest, PortMapping, SandboxRequest
from kernel.host import syscalls
from kernel.host.aio import Deadline
from kernel.ids import SandboxId, new_id
from services.network import methods
from services.network.links import netns
from services.network.methods import NetworkService

PLUGINS = "/usr/lib/cni"
if not Path(PLUGINS, "bridge").exists():
    PLUGINS = "/opt/cni/bin"


class FakeCall:
    """What a handler needs of `kernel.bus.worker.Call`."""

    def __init__(self, seconds: float = 30.0) -> None:
        self.deadline = Deadline.after(seconds)
        self.trace = ""
        self.told: asyncio.Queue[Message] = asyncio.Queue()

    async def progress(self, message: Message) -> None:
        self.told.put_nowait(message)


@pytest.fixture(autouse=True)
def child_watcher() -> Iterator[None]:
    """As in a worker's process: no thread per program."""
    if sys.version_info >= (3, 12):
        yield
        return
    policy = asyncio.get_event_loop_policy()
    policy.set_child_watcher(asyncio.PidfdChildWatcher())
    yield
    policy.set_child_watcher(None)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[None]:
    """A network namespace in place of the host's, for this thread."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    pin = tmp_path / "host"
    asyncio.run(netns.Spare().pin(pin, Deadline.after(20)))
    inside = os.open(pin, os.O_RDONLY)
    try:
        syscalls.setns(inside, syscalls.CLONE_NEWNET)
        yield
    finally:
        syscalls.setns(before, syscalls.CLONE_NEWNET)
        os.close(inside)
        os.close(before)
        asyncio.run(netns.remove(pin))


@dataclass
class Node:
    """A node's network: configuration, folders, and pods by number."""

    root: Path
    bridge: str = field(default_factory=lambda: f"crt{secrets.token_hex(4)}")
    subnet: str = field(default_factory=lambda: f"10.99.{secrets.randbelow(250)}")

    def __post_init__(self) -> None:
        self.net_d, self.bin, self.leases = (self.root / name for name in ("net.d", "bin", "leases"))
        for folder in (self.net_d, self.bin):
            folder.mkdir()
        self.config = Config(
            root=str(self.root / "lib"),
            run=str(self.root / "run"),
            network=NetworkSection(config_dir=str(self.net_d), plugin_dirs=(str(self.bin), PLUGINS), timeout=20.0),
        )

    def bridge_plugin(self) -> dict[str, object]:
        """The default configuration's bridge, on a bridge and subnet of the test's."""
        deployed = Path(__file__).resolve().parents[3] / "deploy/cni/10-crisp.conflist"
        plugin = json.loads(deployed.read_text())["plugins"][0]
        plugin["bridge"] = self.bridge
        plugin["ipam"] |= {"ranges": [[{"subnet": f"{self.subnet}.0/24"}]], "dataDir": str(self.leases)}
        return plugin

    def configure(self, *plugins: dict[str, object], version: str = "1.0.0") -> None:
        """Write the list of plugins; bridge and portmap where none are given."""
        chain = plugins or (self.bridge_plugin(), {"type": "portmap", "capabilities": {"portMappings": True}})
        (self.net_d / "10.conflist").write_text(
            json.dumps({"cniVersion": version, "name": self.bridge, "plugins": list(chain)})
        )

    def script(self, name: str, body: str) -> dict[str, object]:
        """A plugin as a shell script; what it was asked is told in $LOG."""
        path = self.bin / name
        log = self.root / f"{name}.log"
        path.write_text(f'#!/bin/sh\nLOG={log}\necho "$CNI_COMMAND $CNI_NETNS" >> $LOG\n{body}\n')
        path.chmod(stat.S_IRWXU)
        return {"type": name}

    def asked(self, name: str) -> list[str]:
        """The commands that a script was run with."""
        log = self.root / f"{name}.log"
        return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []

    def pin(self, sandbox: SandboxId) -> Path:
        return self.config.paths.netns(sandbox)

    def lease_files(self) -> list[str]:
        """Addresses that host-local holds."""
        return sorted(path.name for path in self.leases.glob("*/*.*.*.*"))

    def leaks(self) -> list[str]:
        """What pods have left; the bridge and the chains for all pods are the plugins' own."""
        found = [f"pin {path}" for path in self.config.paths.netns_dir.glob("*")]
        found += [f"attachment {path}" for path in self.config.paths.network_state.glob("*")]
        found += [f"lease {address}" for address in self.lease_files()]
        found += [f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines()
                  if str(self.root / "run") in line]  # fmt: skip
        found += [f"link {link['ifname']}" for link in json.loads(run("ip", "-j", "link"))
                  if link["ifname"] not in ("lo", self.bridge)]  # fmt: skip
        return found + [f"rule {line}" for line in rules() if re.search(r"CNI-(?!HOSTPORT-)|\bdnat to\b", line)]


def run(*argv: str) -> str:
    """A program's output."""
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=10).stdout


def rules() -> list[str]:
    """The host's packet filter, line by line."""
    return run("iptables-save").splitlines()


def pod(sandbox: SandboxId, *port_mappings: PortMapping) -> AttachRequest:
    """A request."""
    return AttachRequest(sandbox_id=sandbox, name="web", namespace="test", uid="1", port_mappings=port_mappings)


class Client:
    """Calls the service as the bus does."""

    def __init__(self, service: NetworkService) -> None:
        self.service = service

    async def attach(self, sandbox: SandboxId, *port_mappings: PortMapping, seconds: float = 30.0) -> Attached:
        call = FakeCall(seconds)
        async with call.deadline.limit("attach"):
            return await self.service.attach(pod(sandbox, *port_mappings), call)

    async def detach(self, sandbox: SandboxId, seconds: float = 30.0) -> None:
        call = FakeCall(seconds)
        async with call.deadline.limit("detach"):
            await self.service.detach(SandboxRequest(sandbox_id=sandbox), call)


@pytest.fixture
def node(host: None, tmp_path: Path) -> Iterator[Node]:
    """A node whose pods leave nothing behind."""
    root = tmp_path / "node"
    root.mkdir()
    made = Node(root)
    yield made
    deadline = time.monotonic() + 5
    while (
        leaks := made.leaks()
    ) and time.monotonic() < deadline:  # the kernel ends a namespace's links in its own time
        time.sleep(0.05)  # no event tells when
    for pin in made.config.paths.netns_dir.glob("*"):
        asyncio.run(netns.remove(pin))
    assert not leaks, "\n".join(leaks)


@pytest_asyncio.fixture
async def client(node: Node) -> AsyncIterator[Client]:
    """The worker's service."""
    service = await methods.create(node.config)
    yield Client(service)
    await service.close()


@pytest.fixture
def sandbox() -> SandboxId:
    """A fresh sandbox's id."""
    return SandboxId(new_id())
