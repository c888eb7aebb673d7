"""The runtime worker's methods on the bus, each a short spine over `pods` and `containers`.

Runs as root, with every capability and no filter, because what it starts inherits them. An attempt goes on when
its caller has left, and whoever asks again for the same thing waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from kernel.bus.worker import Call
from kernel.config.sections import Config
from kernel.contracts import runtime as contract
from kernel.contracts.contract import Nothing
from kernel.contracts.runtime import (
    ContainerRequest,
    Created,
    CreateRequest,
    DumpRequest,
    ExecRequest,
    Executed,
    Facts,
    Helped,
    HelperRequest,
    Inspected,
    Inventory,
    Label,
    LabelRequest,
    OpenAttachRequest,
    OpenExecRequest,
    Platform,
    PodMade,
    PodRequest,
    SandboxRequest,
    SealRequest,
    SessionRequest,
    Started,
    StopRequest,
    Updated,
    UpdatePodRequest,
    UpdateRequest,
)  # fmt: skip
from kernel.contracts.stats import Stats, StatsRequest
from kernel.errors import NotFound
from kernel.host import thread
from kernel.host.aio import Deadline, Joins
from services.runtime import context
from services.runtime.cgroups import cgroup_path
from services.runtime.containers.container_table import Containers
from services.runtime.context import Setting
from services.runtime.namespaces import user_namespace
from services.runtime.pods.pod_table import Pods
from services.runtime.programs import credential_helper
from services.runtime.usage import usage_reading

_T = TypeVar("_T")


async def create(config: Config) -> Runtime:
    """The service, with all that an earlier worker left taken up."""
    found = await asyncio.to_thread(context.read, config)
    pods = Pods(found)
    containers = Containers(found, pods)
    await pods.recover()  # first: containers refer to them
    await containers.recover()
    return Runtime(found, pods, containers)


class Runtime:
    """The service of the runtime worker's contract."""

    def __init__(self, found: Setting, pods: Pods, containers: Containers) -> None:
        self._setting = found
        self._pods = pods
        self._containers = containers
        self._joins: Joins[tuple[str, str], object] = Joins(found.tasks)
        self._mapped: bool | None = None
        self._readings: Joins[StatsRequest, Stats] = Joins(found.tasks)
        self._reader = usage_reading.Reader(found.cgroups.hierarchies, found.config.paths)

    async def close(self) -> None:
        """Let go of descriptors and tasks; pods and containers stay."""
        await self._setting.tasks.close()
        self._containers.close()
        self._pods.close()

    async def make_pod(self, request: PodRequest, call: Call) -> PodMade:
        deadline = Deadline.after(contract.MAKE_POD.deadline)
        return await self._join("make_pod", request.sandbox, lambda: self._pods.make(request, deadline))

    async def stop_pod(self, request: SandboxRequest, call: Call) -> Nothing:
        async def attempt() -> Nothing:
            await self._containers.kill_pod(request.sandbox)
            await self._pods.stop(request.sandbox)
            return Nothing()

        return await self._join("stop_pod", request.sandbox, attempt)

    async def remove_pod(self, request: SandboxRequest, call: Call) -> Nothing:
        async def attempt() -> Nothing:
            await self._containers.remove_pod(request.sandbox)
            await self._pods.remove(request.sandbox)
            return Nothing()

        return await self._join("remove_pod", request.sandbox, attempt)

    async def create(self, request: CreateRequest, call: Call) -> Created:
        deadline = Deadline.after(contract.CREATE.deadline)
        return await self._join("create", request.container, lambda: self._containers.create(request, deadline))

    async def start(self, request: ContainerRequest, call: Call) -> Started:
        deadline = Deadline.after(contract.START.deadline)
        return await self._join("start", request.container, lambda: self._containers.start(request, deadline))

    async def stop(self, request: StopRequest, call: Call) -> Nothing:
        await self._containers.stop(request)
        return Nothing()

    async def remove(self, request: ContainerRequest, call: Call) -> Nothing:
        async def attempt() -> Nothing:
            await self._containers.remove(request.container)
            return Nothing()

        return await self._join("remove", request.container, attempt)

    async def exec(self, request: ExecRequest, call: Call) -> Executed:
        return await self._containers.execute(request, call.deadline)

    async def open_exec(self, request: OpenExecRequest, call: Call) -> Nothing:
        await self._containers.open_exec(request, call.deadline)
        return Nothing()

    async def open_attach(self, request: OpenAttachRequest, call: Call) -> Nothing:
        await self._containers.open_attach(request, call.deadline)
        return Nothing()

    async def close_session(self, request: SessionRequest, call: Call) -> Nothing:
        await self._containers.sessions.close(request.session)
        return Nothing()

    async def reopen_log(self, request: ContainerRequest, call: Call) -> Nothing:
        await self._containers.reopen_log(request, call.deadline.earlier(contract.REOPEN_LOG.deadline))
        return Nothing()

    async def update(self, request: UpdateRequest, call: Call) -> Updated:
        return await self._containers.update(request, call.deadline.earlier(contract.UPDATE.deadline))

    async def update_pod(self, request: UpdatePodRequest, call: Call) -> Nothing:
        await self._pods.update(request, call.deadline.earlier(contract.UPDATE_POD.deadline))
        return Nothing()

    async def dump(self, request: DumpRequest, call: Call) -> Nothing:
        await self._containers.checkpoints.dump(self._containers.get(request.container), request, call.deadline)
        return Nothing()

    async def seal(self, request: SealRequest, call: Call) -> Nothing:
        async def attempt() -> Nothing:
            await self._containers.checkpoints.seal(self._containers.get(request.container), request)
            return Nothing()

        return await self._join("seal", request.container, attempt)

    async def thaw(self, request: ContainerRequest, call: Call) -> Nothing:
        async def attempt() -> Nothing:
            with suppress(NotFound):  # nothing of it is frozen either
                await self._containers.checkpoints.thaw(self._containers.get(request.container))
            return Nothing()

        return await self._join("thaw", request.container, attempt)

    async def inspect(self, request: ContainerRequest, call: Call) -> Inspected:
        return await self._containers.inspect(request)

    async def platform(self, request: Nothing, call: Call) -> Platform:
        config = self._setting.config.runtime
        found = [await runtime.fact(call.deadline) for runtime in self._setting.runtimes.values()]
        programs = {
            **{f"handler {name}": handler.path for name, handler in config.handlers.items()},
            "conmon": config.conmon, "pause": config.pause,
        }  # fmt: skip
        mapped = await self._user_namespaces(call.deadline)
        return Platform(
            cgroup_driver=self._setting.driver,
            handlers=tuple(
                replace(fact, user_namespaces=fact.user_namespaces and mapped) for fact in found if fact is not None
            ),
            selinux=self._containers.profiles.labelled(),
            missing=tuple(f"{name}: {path}" for name, path in programs.items() if not Path(path).is_file()),
        )

    async def _user_namespaces(self, deadline: Deadline) -> bool:
        """Whether the host can have them, whatever the OCI runtime: it is looked at once."""
        if self._mapped is None:
            self._mapped = await user_namespace.supported(self._setting.config.paths.root, deadline)
        return self._mapped

    async def mount_label(self, request: LabelRequest, call: Call) -> Label:
        pod = self._pods.get(request.sandbox)
        return Label(
            label=await self._containers.profiles.mount_label(
                pod.request, request.selinux, privileged=request.privileged
            )
        )

    async def watch(self, request: Nothing, call: Call) -> Nothing:
        queue = self._setting.watchers.join()
        try:
            facts = Facts(
                pods=self._pods.facts(),
                containers=self._containers.facts(),
                unreadable=self._containers.unreadable(),
            )
            await call.progress(facts)
            while True:
                await call.progress(await queue.get())
        finally:
            self._setting.watchers.leave(queue)

    async def inventory(self, request: Nothing, call: Call) -> Inventory:
        return await asyncio.to_thread(self._inventory)

    async def ask_helper(self, request: HelperRequest, call: Call) -> Helped:
        """Ask a credential helper."""
        settings, deadline = self._setting.config.image, call.deadline
        return Helped(auth=await credential_helper.ask(settings, request.helper, request.server, deadline))

    async def sweep(self, request: Nothing, call: Call) -> Nothing:
        await asyncio.to_thread(self._sweep)
        return Nothing()

    async def stats(self, request: StatsRequest, call: Call) -> Stats:
        if not self._readings.running(request):
            self._readings.begin(request, self._stats(request), "stats")
        return await self._readings.wait(request)

    async def _stats(self, request: StatsRequest) -> Stats:
        containers = self._containers.places()
        places = self._pods.places(request.sandboxes, containers)
        # a thread of its own: it ends in the network namespace of the last pod
        work = partial(self._reader.read, places, detail=request.detail)
        return await thread.run(work, Deadline.after(contract.STATS.deadline), "stats")

    def _inventory(self) -> Inventory:
        pods, containers = self._pods.ids(), self._containers.ids()
        below = self._setting.cgroups.below(
            cgroup_path.base(self._setting.driver, self._setting.config.runtime.cgroup_parent)
        )
        owned = {*pods, *containers}
        monitors = self._containers.monitors()
        return Inventory(
            pods=pods,
            containers=containers,
            cgroups=tuple(path for path in below if cgroup_path.owner(path) not in owned and path not in monitors),
        )

    def _sweep(self) -> None:
        for path in self._inventory().cgroups:
            self._setting.cgroups.remove_if_empty(path)

    async def _join(self, method: str, name: str, attempt: Callable[[], Coroutine[object, object, _T]]) -> _T:
        """Wait for the attempt under way, or begin one; it goes on when this caller has left."""
        key = (method, name)
        if not self._joins.running(key):
            self._joins.begin(key, attempt(), f"{method} {name}")
        return await self._joins.wait(key)  # type: ignore[return-value]  # a key's attempts are of one type
