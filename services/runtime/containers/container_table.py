"""All containers of the worker: created, started, updated, stopped, removed, and taken up again after its death.

Run by the runtime worker on its event loop. Rules kept: one step of a container at a time; before a step whose outcome
cannot be seen from outside, state.json records how far the container came; one that was left half-made is removed and
made again; nothing of it is left after an error in `create` or after `remove`, but its root file system and its log.
"""

from __future__ import annotations

import asyncio

from kernel.contracts.runtime import (
    ContainerFact,
    ContainerRequest,
    Created,
    CreateRequest,
    Started,
    StopRequest,
    Updated,
    UpdateRequest,
)  # fmt: skip
from kernel.errors import FailedPrecondition, NotFound
from kernel.host.aio import Deadline, KeyedLock
from kernel.ids import ContainerId, SandboxId
from services.runtime.checkpoints import restore
from services.runtime.checkpoints.dump import Checkpoints
from services.runtime.containers import launch, monitors, plan, removal, start, update
from services.runtime.context import Context
from services.runtime.exits.container_ends import ContainerEnds
from services.runtime.exits.stop import Stops
from services.runtime.pods.pod_state import Pod
from services.runtime.pods.pod_table import Pods
from services.runtime.programs import conmon
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records import bundle
from services.runtime.records.bundle import ContainerBundle
from services.runtime.records.container import Container
from services.runtime.security.profiles import Profiles
from services.runtime.usage.usage_reading import ContainerPlace

_SWEEP_SECONDS = 30.0
"""Seconds that the rest of a container's processes may take to end after SIGKILL."""


class Containers:
    """The containers that have been created, by id.

    It is one class because each step takes its container's lock and changes this one table; what a step does is in
    the modules below.
    """

    def __init__(self, context: Context, pods: Pods, profiles: Profiles) -> None:
        self._context = context
        self._pods = pods
        self._profiles = profiles
        self._containers: dict[ContainerId, Container] = {}
        self._unreadable: set[ContainerId] = set()
        """Containers of an earlier worker whose state.json is damaged; they may run."""
        self._locks: KeyedLock[ContainerId] = KeyedLock()
        self._ends = ContainerEnds(context.tasks, context.cgroups, context.watchers)
        self._stops = Stops(context.tasks, context.cgroups)
        self.checkpoints = Checkpoints(context, pods, self.runtime)

    def get(self, container_id: ContainerId) -> Container:
        """Return a container; NotFound if there is none."""
        found = self._containers.get(container_id)
        if found is None:
            raise NotFound(f"container {container_id} is not here")
        return found

    def runtime(self, container: Container) -> OciRuntime:
        """Return the OCI runtime of a container; FailedPrecondition if its handler has left the configuration."""
        runtime = self._context.runtimes.get(container.state.handler)
        if runtime is None:
            raise FailedPrecondition(
                f"container {container.id}: its runtime handler {container.state.handler!r} is no longer configured"
            )
        return runtime

    def facts(self) -> tuple[ContainerFact, ...]:
        """Return the facts about each container."""
        return tuple(container.fact() for container in self._containers.values())

    def unreadable(self) -> tuple[ContainerId, ...]:
        """Return the ids of the containers whose state cannot be read."""
        return tuple(self._unreadable)

    def ids(self) -> tuple[ContainerId, ...]:
        """Return the ids of all containers that have a folder on disk, half-made ones included."""
        return tuple(bundle.container_ids(self._context.root))

    def monitor_parents(self) -> frozenset[str]:
        """Return the cgroups that have cgroups of conmons in them."""
        return frozenset(monitors.parent_of(one.state.conmon_cgroup) for one in self._containers.values())

    def places(self) -> dict[SandboxId, list[ContainerPlace]]:
        """Return the places that statistics are read from, of containers that have a process, by pod."""
        found: dict[SandboxId, list[ContainerPlace]] = {}
        for container in self._containers.values():
            if container.state.process is not None and not container.exited.is_set():
                pid, cgroup = container.state.process.pid, container.state.limits_cgroup
                place = ContainerPlace(container_id=container.id, cgroup=cgroup, pid=pid)
                found.setdefault(container.state.sandbox_id, []).append(place)
        return found

    async def recover(self) -> None:
        """Take up the containers that an earlier worker created, and report the exits that no worker saw.

        One that is half-made or whose state is damaged is left alone: it is in the inventory, and made again or
        removed on request.
        """
        for container_id in self.ids():
            folder = ContainerBundle(self._context.root, container_id)
            state = await asyncio.to_thread(folder.state.read)
            if state is None and folder.state.exists():
                self._unreadable.add(container_id)
            if state is None or state.phase == "creating":
                continue
            if restore.was_cut_off(state):
                state = await restore.adopt(folder, state, self._context.runtimes.get(state.handler))
            container = Container(container_id, folder, state)
            self._follow(container)
            self.checkpoints.recover(container)

    async def create(self, request: CreateRequest, deadline: Deadline) -> Created:
        """Create a container; one that is created is success. After an error nothing of it is left."""
        pod = self._pods.get(request.sandbox_id)
        runtime = self._pods.runtime(pod)
        if request.restores:
            await restore.check(request, pod.request, runtime, deadline)
        deadline = deadline.earlier(runtime.settings.create_timeout)
        async with self._locks.hold(request.container_id):
            known = self._containers.get(request.container_id)
            if known is not None and known.state.created is not None:
                return known.state.created
            await self._undo(request.container_id)
            target = self._containers.get(request.security.target) if request.security.target else None
            pid_namespace = await plan.pid_namespace(self._pods, pod, request, target, deadline)
            planned = await plan.prepare(self._context, self._profiles, pod, runtime, request, pid_namespace, deadline)
            try:
                enter = self._enter(runtime, pod, planned.state.conmon_cgroup)
                state = await launch.create(self._context, pod, request, planned, enter, deadline)
            except Exception:
                await self._undo(request.container_id)
                raise
            self._follow(
                Container(request.container_id, ContainerBundle(self._context.root, request.container_id), state)
            )
            assert state.created is not None  # set by `launch.create`
            return state.created

    async def start(self, request: ContainerRequest, deadline: Deadline) -> Started:
        """Let a created container's process run, once; or restore its processes."""
        async with self._locks.hold(request.container_id):
            container = self.get(request.container_id)
            runtime = self.runtime(container)
            if container.waits_for_restore:
                pod = self._pods.get(container.state.sandbox_id)
                enter = self._enter(self._pods.runtime(pod), pod, container.state.conmon_cgroup)
                await start.restore_processes(self._context, pod, container, runtime, enter, deadline)
                self._follow(container)
            else:
                await start.run_once(container, runtime, deadline)
            return Started(started_at=container.state.started_at, pid=container.fact().pid)

    async def stop(self, request: StopRequest) -> None:
        """Stop a container. Returns once it has exited; no such container is success.

        One whose state cannot be read is removed at once: only the state names the process to signal.
        """
        if request.container_id in self._unreadable:
            await self.remove(request.container_id)
        container = self._containers.get(request.container_id)
        if container is not None:
            await self._make_stoppable(container)
            await self._stops.stop(container, request.timeout)

    async def remove(self, container_id: ContainerId) -> None:
        """Kill a container's processes and delete all of it; no such container is success."""
        async with self._locks.hold(container_id):
            known = self._containers.get(container_id)
            if known is not None:
                await self._make_stoppable(known)
                await self._stops.kill(known)
            await self._undo(container_id)

    async def kill_pod(self, sandbox_id: SandboxId) -> None:
        """Kill the processes of a pod's containers."""
        for container in self._of(sandbox_id):
            await self._make_stoppable(container)
        await asyncio.gather(*(self._stops.kill(container) for container in self._of(sandbox_id)))

    async def remove_pod(self, sandbox_id: SandboxId) -> None:
        """Remove a pod's containers, half-made ones included."""
        for container_id in self.ids():
            known = self._containers.get(container_id)
            state = known.state if known else ContainerBundle(self._context.root, container_id).state.read()
            state = state or removal.assumed_state(self._context, self._pods, container_id)
            if state is not None and state.sandbox_id == sandbox_id:
                await self.remove(container_id)

    async def update(self, request: UpdateRequest, deadline: Deadline) -> Updated:
        """Change a container's limits."""
        async with self._locks.hold(request.container_id):
            container = self.get(request.container_id)
            runtime = self.runtime(container)
            held = await update.change_limits(self._context, container, runtime, request.resources, deadline)
            return Updated(resources=held)

    def close(self) -> None:
        """Stop watching the containers."""
        for container in self._containers.values():
            container.close()

    def _of(self, sandbox_id: SandboxId) -> list[Container]:
        return [container for container in self._containers.values() if container.state.sandbox_id == sandbox_id]

    def _enter(self, runtime: OciRuntime, pod: Pod, conmon_cgroup: str) -> conmon.Enter:
        return monitors.enter(self._context.cgroups, self._pods.made_cgroups, runtime, pod, conmon_cgroup)

    def _follow(self, container: Container) -> None:
        self._containers[container.id] = container
        self._ends.follow(container, self._sweep)

    async def _sweep(self, container: Container) -> None:
        """Kill the rest of an exited container: without a PID namespace of its own, processes outlive its first one."""
        await self._context.cgroups.kill([container.state.cgroup], Deadline.after(_SWEEP_SECONDS))

    async def _make_stoppable(self, container: Container) -> None:
        """Thaw a frozen container, because no signal ends it. Report one that waits for its restore as ended.

        The latter has no process to end.
        """
        await self.checkpoints.thaw(container)
        if container.waits_for_restore and not container.exited.is_set():
            self._ends.end_unstarted(container)

    async def _undo(self, container_id: ContainerId) -> None:
        """Remove all of a container, however far it came."""
        known = self._containers.pop(container_id, None)
        folder = ContainerBundle(self._context.root, container_id)
        if not folder.path.exists():
            return
        state = known.state if known else await asyncio.to_thread(folder.state.read)
        if state is None:
            state = await asyncio.to_thread(removal.assumed_state, self._context, self._pods, container_id)
        await removal.undo(self._context, self._pods.made_cgroups, folder, state)
        if known is not None:
            known.close()
        self._unreadable.discard(container_id)
