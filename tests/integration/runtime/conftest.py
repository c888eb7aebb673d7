"""A runtime service on roots and a cgroup parent of its own; nothing of a test may be left on the host after it."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from kernel.config.sections import Config, Handler, RuntimeSection
from kernel.contracts.definition import Message, Nothing
from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import (
    Changed,
    ContainerFact,
    ContainerRequest,
    Created,
    CreateRequest,
    ExecRequest,
    Executed,
    Facts,
    NamespaceMode,
    PodChanged,
    PodMade,
    PodRequest,
    SandboxRequest,
    Security,
    StopRequest,
)
from kernel.host import syscalls
from kernel.host.aio import Deadline
from kernel.ids import ContainerId, SandboxId, new_id
from services.runtime import methods
from services.runtime.methods import Runtime
from tests.harness import host

CGROUPS = Path("/sys/fs/cgroup")
PASSWD = b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/false\nwww:x:33:33:www:/var/www:/bin/sh\n"
GROUP = b"root:x:0:\ndaemon:x:1:\nwww:x:33:\nlog:x:44:www\nmail:x:55:www,root\n"
APPLETS = ("sh", "sleep", "cat", "true", "false", "echo", "id", "env", "pwd", "ps", "ls", "mount", "hostname", "stat",
           "touch", "kill", "dd", "tail", "grep", "seq", "mkdir", "readlink", "printf", "wc", "df",
           "tty", "stty", "sha256sum")  # fmt: skip

if os.geteuid() != 0:
    pytest.skip("needs root", allow_module_level=True)


class FakeCall:
    """What a handler gets from the bus."""

    def __init__(self, seconds: float = 60) -> None:
        self.deadline = Deadline.after(seconds)
        self.trace = ""
        self.told: asyncio.Queue[Message] = asyncio.Queue()

    async def progress(self, message: Message) -> None:
        self.told.put_nowait(message)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system made from the host's busybox."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("bin", "etc", "dev", "proc", "sys", "tmp", "root", "var"):
        (root / name).mkdir()
    root.chmod(0o755)
    (root / "tmp").chmod(0o1777)
    binary = shutil.which("busybox")
    assert binary is not None
    linked = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False).stdout
    for library in (word for word in linked.split() if word.startswith("/")):
        place = root / library.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(library), place)
    shutil.copy(binary, root / "bin" / "busybox")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc" / "passwd").write_bytes(PASSWD)
    (root / "etc" / "group").write_bytes(GROUP)
    return root


@dataclass
class Node:
    """One worker's surroundings, and shorthands for what tests ask of it."""

    config: Config
    tree: Path
    base: Path
    service: Runtime
    sandboxes: list[SandboxId] = field(default_factory=list)
    netns: list[Path] = field(default_factory=list)
    handler: str = ""
    """Of pods that are to run with it; the default one where empty."""

    def call(self, seconds: float = 60) -> FakeCall:
        return FakeCall(seconds)

    def pod_request(self, **fields: object) -> PodRequest:
        sandbox = SandboxId(new_id())
        self.sandboxes.append(sandbox)
        values: dict[str, object] = {
            "sandbox_id": sandbox, "name": "pod", "namespace": "tests", "uid": sandbox[:8], "hostname": "testpod",
            "network": NamespaceMode.NODE, "log_directory": str(self.base / "logs" / sandbox[:8]), **fields,
        }  # fmt: skip
        request = PodRequest(**values)  # type: ignore[arg-type]
        if request.network is NamespaceMode.POD:
            self._make_netns(sandbox)
        return request

    async def pod(self, **fields: object) -> SandboxId:
        request = self.pod_request(**fields)
        await self.make_pod(request)
        return request.sandbox_id

    async def make_pod(self, request: PodRequest) -> PodMade:
        return await self.service.make_pod(request, self.call())

    def create_request(self, sandbox: SandboxId, *args: str, **fields: object) -> CreateRequest:
        container = ContainerId(new_id())
        rootfs = self.config.paths.rootfs(container)
        shutil.copytree(self.tree, rootfs, symlinks=True)
        values: dict[str, object] = {
            "container_id": container, "sandbox_id": sandbox, "name": "box", "attempt": 0, "image": ImageConfig(),
            "image_name": "busybox", "image_ref": "busybox", "command": args, "log_path": f"box/{container[:6]}.log",
            "passwd": PASSWD, "group": GROUP, **fields,
        }  # fmt: skip
        return CreateRequest(**values)  # type: ignore[arg-type]

    async def create(self, request: CreateRequest) -> Created:
        return await self.service.create(request, self.call())

    async def start(self, container: ContainerId) -> int:
        return (await self.service.start(ContainerRequest(container_id=container), self.call())).started_at

    async def run(self, sandbox: SandboxId, *args: str, **fields: object) -> ContainerId:
        """Create and start."""
        request = self.create_request(sandbox, *args, **fields)
        await self.create(request)
        await self.start(request.container_id)
        return request.container_id

    async def output(self, sandbox: SandboxId, script: str, **fields: object) -> str:
        """What a shell script prints in a container of its own."""
        container = await self.run(sandbox, "sh", "-c", script, **fields)
        await self.ended(container)
        return "".join(line.split(" ", 3)[3] + "\n" for line in self.log(sandbox, container))

    def log(self, sandbox: SandboxId, container: ContainerId) -> list[str]:
        path = self.base / "logs" / sandbox[:8] / "box" / f"{container[:6]}.log"
        return path.read_text().splitlines()

    async def exec(self, container: ContainerId, *cmd: str, timeout: int = 0) -> Executed:
        return await self.service.exec(ExecRequest(container_id=container, cmd=cmd, timeout=timeout), self.call())

    async def stop(self, container: ContainerId, timeout: int = 10) -> None:
        await self.service.stop(StopRequest(container_id=container, timeout=timeout), self.call())

    async def remove(self, container: ContainerId) -> None:
        await self.service.remove(ContainerRequest(container_id=container), self.call())

    async def facts(self) -> Facts:
        async for message in self.watch():
            assert isinstance(message, Facts)
            return message
        raise AssertionError

    async def fact(self, container: ContainerId) -> ContainerFact:
        return next(fact for fact in (await self.facts()).containers if fact.container_id == container)

    async def watch(self) -> AsyncIterator[Facts | Changed | PodChanged]:
        call = self.call()
        task = asyncio.get_running_loop().create_task(self.service.watch(Nothing(), call))  # type: ignore[arg-type]
        try:
            while True:
                message = await call.told.get()
                assert isinstance(message, Facts | Changed | PodChanged)
                yield message
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def ended(self, container: ContainerId, seconds: float = 15) -> ContainerFact:
        """The fact of the container's end."""
        async with asyncio.timeout(seconds):
            async for message in self.watch():
                facts = message.containers if isinstance(message, Facts) else ()
                facts = (*facts, message.fact) if isinstance(message, Changed) else facts
                for fact in facts:
                    if fact.container_id == container and fact.state in ("exited", "unknown"):
                        return fact
        raise AssertionError

    async def restart(self) -> None:
        """The worker dies and another one comes."""
        await self.service.close()
        self.service = await methods.create(self.config)

    async def clean_up(self) -> None:
        for sandbox in self.sandboxes:
            await self.service.remove_pod(SandboxRequest(sandbox_id=sandbox), self.call())
        await self.service.close()
        for path in self.netns:
            syscalls.umount2(path, syscalls.MNT_DETACH)
            path.unlink()

    def _make_netns(self, sandbox: SandboxId) -> None:
        path = self.config.paths.netns(sandbox)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

        def pin() -> None:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            syscalls.mount(f"/proc/self/task/{threading.get_native_id()}/ns/net", path, flags=syscalls.MS_BIND)

        thread = threading.Thread(target=pin)
        thread.start()
        thread.join()
        self.netns.append(path)


def host_state(base: Path, parent: str) -> dict[str, object]:
    """What a test could leave on the host."""
    marks = (str(base), parent.strip("/"))
    found: dict[str, object] = {
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(base) in line],
        "cgroups": [str(path) for path in (CGROUPS, *CGROUPS.iterdir()) if (path / parent.strip("/")).exists()],
        "state": sorted(str(path) for folder in ("run/runtime/pods", "run/runtime/containers", "run/runc-state")
                        for path in (base / folder).glob("*")),
    }  # fmt: skip
    processes = []
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = status.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if any(mark in line for mark in marks) and "pytest" not in line:
            processes.append(line)
    return {**found, "processes": processes}


@pytest.fixture
def base() -> Iterator[Path]:
    """A short path: unix sockets lie below it."""
    path = Path("/tmp") / f"crisp-{secrets.token_hex(4)}"
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def parent() -> str:
    return f"/crisptest-{secrets.token_hex(4)}"


@pytest.fixture
def config(base: Path, parent: str) -> Config:
    return Config(
        root=str(base / "lib"),
        run=str(base / "run"),
        runtime=RuntimeSection(cgroup_parent=parent, cgroup_driver="cgroupfs"),
    )


@pytest.fixture
def crun_config(base: Path, config: Config) -> Config:
    """crun refuses a hybrid cgroup tree: there it gets a mount namespace without the unified part."""
    program = shutil.which("crun")
    assert program, "crun is not installed: deploy/up installs it"
    handlers = {"runc": config.runtime.handlers["runc"], "crun": Handler(path=host.crun(base, program))}
    runtime = msgspec.structs.replace(config.runtime, handlers=handlers)
    return msgspec.structs.replace(config, runtime=runtime)


@pytest.fixture
async def node(config: Config, base: Path, parent: str, tree: Path) -> AsyncIterator[Node]:
    async for found in _node(config, base, parent, tree):
        yield found


@pytest.fixture
async def crun_node(crun_config: Config, base: Path, parent: str, tree: Path) -> AsyncIterator[Node]:
    async for found in _node(crun_config, base, parent, tree):
        yield found


@pytest.fixture(params=["runc", "crun"])
def any_node(request: pytest.FixtureRequest) -> Node:
    """A node with each OCI runtime in turn."""
    node: Node = request.getfixturevalue("node" if request.param == "runc" else "crun_node")
    node.handler = request.param
    return node


async def _node(config: Config, base: Path, parent: str, tree: Path) -> AsyncIterator[Node]:
    before = host_state(base, parent)
    node = Node(config=config, tree=tree, base=base, service=await methods.create(config))
    try:
        yield node
    finally:
        await node.clean_up()
    assert host_state(base, parent) == before


__all__ = ["FakeCall", "Node", "Security"]
