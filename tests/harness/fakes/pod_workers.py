"""Fakes of the runtime, network and storage workers and of the supervisor, with the state that the real ones would
have.

They are the fault injection of the front's flow tests: a method can be made to fail, to wait, or to be counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import grpc
import pytest
from msgspec.structs import replace

from kernel.bus.client import Client
from kernel.config.sections import Config
from kernel.contracts import network, runtime, storage, stream
from kernel.contracts.definition import Message, Method, Nothing
from kernel.contracts.oci import ImageConfig
from kernel.contracts.records import Image, ImageLayer
from kernel.contracts.supervisor import Commit
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import CrispError, DeadlineExceeded, NotFound
from kernel.front import watches
from kernel.front.containers import create as container_create
from kernel.front.containers import remove as container_remove
from kernel.front.containers import start as container_start
from kernel.front.containers import stop as container_stop
from kernel.front.containers.checkpoint import thaw_forgotten
from kernel.front.context import Call, Front
from kernel.front.memory.replica import Replica
from kernel.front.pods import remove as pod_remove
from kernel.front.pods import run as pod_run
from kernel.front.pods import stop as pod_stop
from kernel.host.aio import Deadline
from kernel.ids import DiffId, Digest, ImageId
from tests.harness.fakes.front import assemble

BOOT = "boot-1"
DIFF = DiffId(Digest("sha256:" + "d" * 64))
IMAGE = Image(
    id=ImageId(Digest("sha256:" + "1" * 64)),
    tags=("docker.io/library/busybox:latest",),
    digests=("docker.io/library/busybox@sha256:" + "2" * 64,),
    layers=(ImageLayer(diff_id=DIFF, bytes=10),),
    size=10,
    config=ImageConfig(cmd=("sh",)),
)


class Host:
    """The state of all workers, and the state on disk; it outlives a front."""

    def __init__(self) -> None:
        self.disk = Replica(cast("Client", None))
        self.disk._apply(Commit(put_images=(IMAGE,)))
        self.pods: set[str] = set()
        self.netns: set[str] = set()
        self.mounts: set[str] = set()
        self.containers: dict[str, runtime.ContainerFact] = {}
        self.unreadable: set[str] = set()
        """Containers whose state the runtime cannot read."""
        self.calls: list[str] = []
        self.told: list[Message] = []
        """Requests about sessions."""
        self.fail: dict[str, list[CrispError | None]] = {}
        """Errors of the next calls of a method, in order; None is success."""
        self.hold: dict[str, asyncio.Event] = {}
        self.events: dict[str, list[Message]] = {}
        """The events of the other watches."""
        self.watchers: list[asyncio.Queue[Message]] = []

    def count(self, name: str) -> int:
        return self.calls.count(name)

    def empty(self) -> bool:
        """Return whether nothing is left on the host or in the records."""
        left = (self.pods, self.netns, self.mounts, self.containers)
        records = (self.disk.sandboxes, self.disk.containers, self.disk.intents)
        return not any(left) and not any(records)

    def exit(self, container: str, code: int = 0, *, oom: bool = False) -> None:
        fact = replace(self.containers[container], state="exited", exit_code=code, finished_at=99, oom_killed=oom)
        self.containers[container] = fact
        for watcher in self.watchers:
            watcher.put_nowait(runtime.Changed(fact=fact))

    def facts(self) -> runtime.Facts:
        return runtime.Facts(
            pods=tuple(runtime.PodFact(sandbox_id=pod, ready=True) for pod in self.pods),  # type: ignore[arg-type]
            containers=tuple(one for name, one in self.containers.items() if name not in self.unreadable),
            unreadable=tuple(self.unreadable),  # type: ignore[arg-type]
        )

    async def call(
        self,
        method: Method[Message, Message],
        request: Message,
        *,
        deadline: Deadline | None = None,
        on_progress: Callable[[Message], None] | None = None,
    ) -> Message:
        self.calls.append(method.name)
        await asyncio.sleep(0)
        if method.name in self.hold:
            await self.hold[method.name].wait()
        planned = self.fail.get(method.name)
        if planned and (error := planned.pop(0)) is not None:
            raise error
        return self._answer(method.name, request)

    async def watch(self, method: Method[Message, Message], request: Message) -> AsyncIterator[Message]:
        events: asyncio.Queue[Message] = asyncio.Queue()
        for event in self.events.get(method.name, ()):
            events.put_nowait(event)
        if method is runtime.WATCH:  # type: ignore[comparison-overlap]
            self.watchers.append(events)
            events.put_nowait(self.facts())
        try:
            while True:
                yield await events.get()
        finally:
            if events in self.watchers:
                self.watchers.remove(events)

    def _answer(self, name: str, request: Message) -> Message:
        match request:
            case Commit():
                self.disk._apply(request)
            case network.AttachRequest():
                self.netns.add(request.sandbox_id)
                return network.Attached(ips=("10.88.0.2", "fd00::2"))
            case network.SandboxRequest():
                self.netns.discard(request.sandbox_id)
            case runtime.PodRequest():
                self.pods.add(request.sandbox_id)
                return runtime.PodMade(cgroup=f"/crisp/{request.sandbox_id}")
            case runtime.SandboxRequest() if name == "remove_pod":
                self.pods.discard(request.sandbox_id)
            case runtime.SandboxRequest():
                if request.sandbox_id not in self.pods:
                    raise NotFound(f"pod {request.sandbox_id} does not exist")
            case storage.JudgeRequest():
                pass
            case storage.MountRequest():
                self.mounts.add(request.container_id)
                return storage.Mounted(passwd=b"root:x:0:0", group=b"")
            case storage.ContainerRequest():
                self.mounts.discard(request.container_id)
            case runtime.CreateRequest():
                fact = runtime.ContainerFact(
                    container_id=request.container_id, sandbox_id=request.sandbox_id, state="created", pid=7
                )
                self.containers.setdefault(request.container_id, fact)
                return runtime.Created(pid=7, uid=0, gid=0, supplemental_groups=(0,), stop_signal="SIGTERM")
            case runtime.ContainerRequest() if name == "start":
                fact = replace(self.containers[request.container_id], state="running", started_at=50)
                self.containers[request.container_id] = fact
                return runtime.Started(started_at=50)
            case runtime.ContainerRequest() if name == "remove":
                self.unreadable.discard(request.container_id)
                self.containers.pop(request.container_id, None)
            case runtime.ContainerRequest() if name == "reopen_log":
                pass
            case runtime.StopRequest():
                if request.container_id in self.unreadable:
                    self.unreadable.discard(request.container_id)
                    del self.containers[request.container_id]
                elif request.container_id in self.containers:
                    self.exit(request.container_id, 137)
            case Nothing() if name == "platform":
                handler = runtime.HandlerFact(name="runc", version="1.1.5")
                return runtime.Platform(cgroup_driver="cgroupfs", handlers=(handler,))
            case Nothing() if name == "load":
                return self.disk.snapshot()
            case Nothing() if name == "blobs" or name == "inventory":
                raise DeadlineExceeded("not asked in these tests")
            case stream.ExpectRequest():
                self.told.append(request)
                return stream.Expected(base_url="http://127.0.0.1:7")
            case stream.RefuseRequest() | runtime.OpenExecRequest() | runtime.OpenAttachRequest():
                self.told.append(request)
            case network.DialRequest() | runtime.SessionRequest():
                self.told.append(request)
            case _:
                raise AssertionError(f"{name} is not faked")
        return Nothing()


def make_front(host: Host, boot: str = BOOT) -> Front:
    """Make a front that has loaded the state on disk and does not watch yet."""
    front = assemble(host, Config(), boot)
    front.replica.load(host.disk.snapshot())
    return front


def watch(front: Front) -> None:
    front.tasks.spawn(watches.follow_runtime(front, thaw_forgotten), "watch runtime")


def a_call(rpc: str = "RunPodSandbox", seconds: float = 5.0) -> Call:
    return Call(rpc=rpc, deadline=Deadline.after(seconds), trace="-")


def pod_config(name: str = "web", attempt: int = 0, *, host_network: bool = False) -> cri.PodSandboxConfig:
    config = cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=name, namespace="default", uid=f"uid-{name}", attempt=attempt),
        log_directory="/var/log/pods/x",
        labels={"app": name},
        annotations={"note": "a\nb"},
    )
    if host_network:
        config.linux.security_context.namespace_options.network = cri.NODE
    return config


def container_config(name: str = "main", image: str = "busybox", attempt: int = 0) -> cri.ContainerConfig:
    return cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=name, attempt=attempt),
        image=cri.ImageSpec(image=image),
        log_path=f"{name}/{attempt}.log",
        labels={"name": name},
    )


async def run(front: Front, config: cri.PodSandboxConfig | None = None) -> str:
    request = cri.RunPodSandboxRequest(config=config or pod_config())
    return (await pod_run.run_pod_sandbox(front, request, a_call())).pod_sandbox_id


async def stop_pod(front: Front, sandbox: str) -> None:
    await pod_stop.stop_pod_sandbox(front, cri.StopPodSandboxRequest(pod_sandbox_id=sandbox), a_call())


async def remove_pod(front: Front, sandbox: str) -> None:
    await pod_remove.remove_pod_sandbox(front, cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox), a_call())


async def create(front: Front, sandbox: str, config: cri.ContainerConfig | None = None) -> str:
    request = cri.CreateContainerRequest(pod_sandbox_id=sandbox, config=config or container_config())
    return (await container_create.create_container(front, request, a_call())).container_id


async def start(front: Front, container: str) -> None:
    await container_start.start_container(front, cri.StartContainerRequest(container_id=container), a_call())


async def settled(front: Front) -> None:
    """Wait until everything under way has ended, except the watches."""
    while pending := [task for task in front.tasks._tasks if not task.get_name().startswith("watch")]:
        await asyncio.wait(pending, timeout=5)


async def stop_container(front: Front, container: str, timeout: int = 0) -> None:
    request = cri.StopContainerRequest(container_id=container, timeout=timeout)
    await container_stop.stop_container(front, request, a_call("StopContainer"))


async def remove_container(front: Front, container: str) -> None:
    request = cri.RemoveContainerRequest(container_id=container)
    await container_remove.remove_container(front, request, a_call("RemoveContainer"))


async def refused(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def read(call: grpc.aio.UnaryStreamCall[object, object]) -> list[object]:
    return [part async for part in call]
