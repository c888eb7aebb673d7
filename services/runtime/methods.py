"""The runtime worker's methods on the bus; the work is done in `containers`, `pods`, `sessions` and `checkpoints`.

Run by the runtime worker on its event loop, as root with every capability and no filter, because the programs that it
starts inherit these. Rules kept: an attempt goes on when its caller has left; a call for work that is under way
waits for that attempt. `kernel.contracts.runtime` specifies each method.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

from kernel.bus.worker import Call
from kernel.config.sections import Config
from kernel.contracts import runtime as contract
from kernel.contracts.definition import Nothing
from kernel.contracts.oci import IdMap
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
from kernel.errors import FailedPrecondition, Internal, NotFound
from kernel.host import thread
from kernel.host.aio import Deadline, Joins
from kernel.ids import ContainerId, SandboxId, short
from services.runtime import context, inventory
from services.runtime.containers.container_table import Containers
from services.runtime.context import Context
from services.runtime.platform_report import PlatformReport
from services.runtime.pods.pod_table import Pods
from services.runtime.programs import container_log, credential_helper
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records.container import Container
from services.runtime.security.profiles import Profiles
from services.runtime.sessions.exec_attach import Sessions
from services.runtime.sessions.exec_sync import Execs
from services.runtime.usage import usage_reading


async def create(config: Config) -> Runtime:
    """Make the service, and take up everything that an earlier worker left."""
    found = await asyncio.to_thread(context.make, config)
    pods, profiles = Pods(found), Profiles(found)
    containers, sessions = Containers(found, pods, profiles), Sessions(found)
    await pods.recover()  # before the containers, which refer to them
    sessions.recover()
    await containers.recover()
    return Runtime(found, pods, containers, sessions, profiles)


class Runtime:
    """The service of the runtime worker's contract: one method for each of the contract's."""

    def __init__(
        self, found: Context, pods: Pods, containers: Containers, sessions: Sessions, profiles: Profiles
    ) -> None:
        self._context = found
        self._pods = pods
        self._containers = containers
        self._sessions = sessions
        self._profiles = profiles
        self._execs = Execs(found.tasks, found.cgroups, self._run_reaped)
        self._platform = PlatformReport(found, profiles)
        self._reader = usage_reading.Reader(found.cgroups.hierarchies, found.config.paths)
        self._made: Joins[SandboxId, PodMade] = Joins(found.tasks)
        self._created: Joins[ContainerId, Created] = Joins(found.tasks)
        self._started: Joins[ContainerId, Started] = Joins(found.tasks)
        self._done: Joins[tuple[str, str], Nothing] = Joins(found.tasks)
        """Attempts of methods that reply nothing, by method and id."""
        self._readings: Joins[StatsRequest, Stats] = Joins(found.tasks)

    async def close(self) -> None:
        """Close descriptors and cancel tasks; pods and containers stay."""
        await self._context.tasks.close()
        self._sessions.let_go()
        self._containers.close()
        self._pods.close()

    async def make_pod(self, request: PodRequest, call: Call) -> PodMade:
        deadline = Deadline.after(contract.MAKE_POD.deadline)
        name = f"make_pod {short(request.sandbox_id)}"
        return await self._made.join(request.sandbox_id, lambda: self._pods.make(request, deadline), name)

    async def stop_pod(self, request: SandboxRequest, call: Call) -> Nothing:
        async def attempt() -> Nothing:
            await self._containers.kill_pod(request.sandbox_id)
            await self._pods.stop(request.sandbox_id)
            return Nothing()

        return await self._done.join(("stop_pod", request.sandbox_id), attempt, f"stop_pod {short(request.sandbox_id)}")

    async def remove_pod(self, request: SandboxRequest, call: Call) -> Nothing:
        async def attempt() -> Nothing:
            await self._containers.remove_pod(request.sandbox_id)
            await self._pods.remove(request.sandbox_id)
            return Nothing()

        return await self._done.join(
            ("remove_pod", request.sandbox_id), attempt, f"remove_pod {short(request.sandbox_id)}"
        )

    async def update_pod(self, request: UpdatePodRequest, call: Call) -> Nothing:
        await self._pods.update(request, call.deadline.earlier(contract.UPDATE_POD.deadline))
        return Nothing()

    async def create(self, request: CreateRequest, call: Call) -> Created:
        deadline = Deadline.after(contract.CREATE.deadline)
        name = f"create {short(request.container_id)}"
        return await self._created.join(request.container_id, lambda: self._containers.create(request, deadline), name)

    async def start(self, request: ContainerRequest, call: Call) -> Started:
        deadline = Deadline.after(contract.START.deadline)
        name = f"start {short(request.container_id)}"
        return await self._started.join(request.container_id, lambda: self._containers.start(request, deadline), name)

    async def stop(self, request: StopRequest, call: Call) -> Nothing:
        await self._containers.stop(request)
        return Nothing()

    async def remove(self, request: ContainerRequest, call: Call) -> Nothing:
        async def attempt() -> Nothing:
            await self._containers.remove(request.container_id)
            return Nothing()

        return await self._done.join(("remove", request.container_id), attempt, f"remove {short(request.container_id)}")

    async def update(self, request: UpdateRequest, call: Call) -> Updated:
        return await self._containers.update(request, call.deadline.earlier(contract.UPDATE.deadline))

    async def reopen_log(self, request: ContainerRequest, call: Call) -> Nothing:
        deadline = call.deadline.earlier(contract.REOPEN_LOG.deadline)
        container = self._containers.get(request.container_id)
        if container.exited.is_set():
            raise FailedPrecondition(f"container {container.id} is not running")
        made_from = await asyncio.to_thread(container.request)
        pod = self._pods.get(container.state.sandbox_id)
        await container_log.reopen(container.bundle, container.conmon, pod.request, made_from, deadline)
        return Nothing()

    async def inspect(self, request: ContainerRequest, call: Call) -> Inspected:
        container = self._containers.get(request.container_id)
        try:
            spec = await asyncio.to_thread(container.bundle.config.read_text)
        except OSError as error:
            raise Internal(f"container {container.id}: config.json: {error.strerror}") from error
        return Inspected(pid=container.fact().pid, runtime_spec=spec)

    async def exec(self, request: ExecRequest, call: Call) -> Executed:
        container = self._containers.get(request.container_id)
        return await self._execs.run(container, self._containers.runtime(container), request, call.deadline)

    async def _run_reaped(
        self, container: Container, runtime: OciRuntime, request: ExecRequest, limit: Deadline
    ) -> Executed:
        return await self._sessions.run(container, runtime, self._user_namespace(container), request, limit)

    async def open_exec(self, request: OpenExecRequest, call: Call) -> Nothing:
        container = self._containers.get(request.container_id)
        runtime, id_map = self._containers.runtime(container), self._user_namespace(container)
        await self._sessions.exec(container, runtime, id_map, request, call.deadline)
        return Nothing()

    def _user_namespace(self, container: Container) -> IdMap | None:
        return self._pods.get(container.state.sandbox_id).request.user_namespace

    async def open_attach(self, request: OpenAttachRequest, call: Call) -> Nothing:
        await self._sessions.attach(self._containers.get(request.container_id), request.session, call.deadline)
        return Nothing()

    async def close_session(self, request: SessionRequest, call: Call) -> Nothing:
        await self._sessions.close(request.session)
        return Nothing()

    async def dump(self, request: DumpRequest, call: Call) -> Nothing:
        await self._containers.checkpoints.dump(self._containers.get(request.container_id), request, call.deadline)
        return Nothing()

    async def seal(self, request: SealRequest, call: Call) -> Nothing:
        async def attempt() -> Nothing:
            await self._containers.checkpoints.seal(self._containers.get(request.container_id), request)
            return Nothing()

        return await self._done.join(("seal", request.container_id), attempt, f"seal {short(request.container_id)}")

    async def thaw(self, request: ContainerRequest, call: Call) -> Nothing:
        async def attempt() -> Nothing:
            with suppress(NotFound):  # then nothing of it is frozen
                await self._containers.checkpoints.thaw(self._containers.get(request.container_id))
            return Nothing()

        return await self._done.join(("thaw", request.container_id), attempt, f"thaw {short(request.container_id)}")

    async def watch(self, request: Nothing, call: Call) -> Nothing:
        queue = self._context.watchers.join()
        try:
            pods, containers = self._pods.facts(), self._containers.facts()
            await call.progress(Facts(pods=pods, containers=containers, unreadable=self._containers.unreadable()))
            while True:
                await call.progress(await queue.get())
        finally:
            self._context.watchers.leave(queue)

    async def stats(self, request: StatsRequest, call: Call) -> Stats:
        return await self._readings.join(request, lambda: self._read_stats(request), "stats")

    async def _read_stats(self, request: StatsRequest) -> Stats:
        containers = self._containers.places()
        places = self._pods.places(request.sandboxes, containers)
        # a throw-away thread, because it ends in the network namespace of the last pod
        work = partial(self._reader.read, places, detail=request.detail)
        return await thread.run(work, Deadline.after(contract.STATS.deadline), "stats")

    async def platform(self, request: Nothing, call: Call) -> Platform:
        return await self._platform.read(call.deadline)

    async def mount_label(self, request: LabelRequest, call: Call) -> Label:
        pod = self._pods.get(request.sandbox_id)
        label = await self._profiles.mount_label(pod.request, request.selinux, privileged=request.privileged)
        return Label(label=label)

    async def ask_helper(self, request: HelperRequest, call: Call) -> Helped:
        settings = self._context.config.image
        return Helped(auth=await credential_helper.ask(settings, request.helper, request.server, call.deadline))

    async def inventory(self, request: Nothing, call: Call) -> Inventory:
        return await asyncio.to_thread(inventory.read, self._context, self._pods, self._containers)

    async def sweep(self, request: Nothing, call: Call) -> Nothing:
        await asyncio.to_thread(inventory.sweep, self._context, self._pods, self._containers)
        return Nothing()
