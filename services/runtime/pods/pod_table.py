"""All pods of the worker: made, updated, stopped, removed, and taken up again after the worker's death.

Run by the runtime worker on its event loop. Rules kept: one step of a pod at a time; after an error in `make`, and
after `remove`, nothing of the pod is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from msgspec.structs import replace

from kernel.contracts.runtime import NamespaceMode, PodChanged, PodFact, PodMade, PodRequest, UpdatePodRequest
from kernel.errors import FailedPrecondition, NotFound
from kernel.host import thread
from kernel.host.aio import Deadline, KeyedLock
from kernel.host.pidfd import Watched
from kernel.ids import SandboxId
from services.runtime.cgroups.made_cgroups import MadeCgroups
from services.runtime.context import Context
from services.runtime.namespaces import user_namespace
from services.runtime.pods import limit, parts, pause, pod_request
from services.runtime.pods.pod_state import Pod
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records import bundle
from services.runtime.records.bundle import PodBundle, PodRecord
from services.runtime.usage.usage_reading import ContainerPlace, PodPlace

_KILL_SECONDS = 30.0
"""Seconds that a pause process may take to end after SIGKILL."""


class Pods:
    """The pods by the id of their sandbox."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._pods: dict[SandboxId, Pod] = {}
        self._locks: KeyedLock[SandboxId] = KeyedLock()
        self.made_cgroups = MadeCgroups(context.root, context.cgroups)

    def get(self, sandbox_id: SandboxId) -> Pod:
        """Return a pod that is made; NotFound if there is none."""
        pod = self._pods.get(sandbox_id)
        if pod is None or not pod.record.made:
            raise NotFound(f"pod {sandbox_id} is not here")
        return pod

    def runtime(self, pod: Pod) -> OciRuntime:
        """Return the OCI runtime of a pod; FailedPrecondition if its handler has left the configuration."""
        name = pod.request.handler or self._context.config.runtime.default_handler
        runtime = self._context.runtimes.get(name)
        if runtime is None:
            raise FailedPrecondition(f"pod {pod.id}: its runtime handler {name!r} is no longer configured")
        return runtime

    def all(self) -> tuple[Pod, ...]:
        """Return all pods whose record can be read, half-made ones included."""
        return tuple(self._pods.values())

    def facts(self) -> tuple[PodFact, ...]:
        """Return the facts about each pod that is made."""
        return tuple(pod.fact() for pod in self._made())

    def ids(self) -> tuple[SandboxId, ...]:
        """Return the ids of all pods that have a folder on disk, half-made ones included."""
        return tuple(bundle.pod_ids(self._context.root))

    def places(
        self, wanted: tuple[SandboxId, ...], containers: dict[SandboxId, list[ContainerPlace]]
    ) -> list[PodPlace]:
        """Return the places that statistics are read from, for the `wanted` pods, or for all if that is empty."""
        paths = self._context.config.paths
        return [
            PodPlace(
                sandbox_id=pod.id,
                cgroup=pod.cgroup.path,
                netns=None if pod.request.network is NamespaceMode.NODE else paths.netns(pod.id),
                pause_pid=pod.pause_pid,
                containers=tuple(containers.get(pod.id, ())),
            )
            for pod in self._made(wanted)
        ]

    async def recover(self) -> None:
        """Take up the pods that an earlier worker made.

        One that is half-made or whose record is damaged is left alone: it is in the inventory, and removed on request.
        """
        for sandbox_id in self.ids():
            folder = PodBundle(self._context.root, sandbox_id)
            record = folder.record.read()
            if record is None or record.request.sandbox_id != sandbox_id:
                continue
            pod = self._pods[sandbox_id] = Pod(record, folder)
            self._watch(pod)

    async def make(self, request: PodRequest, deadline: Deadline) -> PodMade:
        """Make a pod; one that is made is success. After an error nothing of it is left."""
        config = self._context.config.runtime
        cgroup = pod_request.check(request, config, self._context.driver)
        async with self._locks.hold(request.sandbox_id):
            pod = self._pods.get(request.sandbox_id)
            if pod is None or not pod.record.made:
                # by name, so that another default handler some day does not change the pod
                named = replace(request, handler=request.handler or config.default_handler)
                folder = PodBundle(self._context.root, request.sandbox_id)
                pod = self._pods[request.sandbox_id] = Pod(PodRecord(request=named, cgroup=cgroup.name), folder)
                await self._make(pod, deadline)
            return PodMade(cgroup=pod.cgroup.path, pause_pid=pod.pause_pid)

    async def pause(self, pod: Pod, deadline: Deadline) -> int:
        """Return the pid of the pod's pause process, which is started if the pod has none."""
        async with self._locks.hold(pod.id):
            if not pod.pause_pid:
                await self._start_pause(pod, deadline)
            return pod.pause_pid

    async def stop(self, sandbox_id: SandboxId) -> None:
        """Kill the pause process; the rest of the pod stays."""
        async with self._locks.hold(sandbox_id):
            pod = self._pods.get(sandbox_id)
            if pod is not None and pod.folder.pause.exists():
                await self._context.cgroups.kill([pod.cgroup.pause(sandbox_id)], Deadline.after(_KILL_SECONDS))

    async def remove(self, sandbox_id: SandboxId) -> None:
        """Undo everything that `make` did; no such pod is success. The pod's containers have been removed before."""
        async with self._locks.hold(sandbox_id):
            await self._remove(sandbox_id, self._pods.get(sandbox_id))

    async def update(self, request: UpdatePodRequest, deadline: Deadline) -> None:
        """Give a pod other limits, if its cgroup is crisp's and not the kubelet's."""
        async with self._locks.hold(request.sandbox_id):
            pod = self.get(request.sandbox_id)
            wanted = replace(pod.request, resources=request.resources, overhead=request.overhead)
            await thread.run(
                lambda: limit.write(self._context.cgroups, pod.cgroup, wanted), deadline, f"pod {pod.id}: limits"
            )
            pod.change(replace(pod.record, request=wanted))

    def close(self) -> None:
        """Stop watching the pause processes."""
        for pod in self._pods.values():
            pod.close()

    def _made(self, wanted: tuple[SandboxId, ...] = ()) -> Iterator[Pod]:
        """Return those of the `wanted` pods that are made, or all that are made if `wanted` is empty."""
        chosen = [self._pods[one] for one in wanted if one in self._pods] if wanted else self._pods.values()
        return (pod for pod in chosen if pod.record.made)

    async def _make(self, pod: Pod, deadline: Deadline) -> None:
        what = f"pod {pod.id}"
        try:
            if pod.request.user_namespace is not None:
                await thread.run(lambda: parts.note(pod), deadline, what)
                await user_namespace.pin(pod.pins, pod.request.user_namespace, deadline)
            # a throw-away thread, because it leaves its namespaces for the pod's
            await thread.run(lambda: parts.make(self._context, self.made_cgroups, pod), deadline, what)
            if pod.request.pid is NamespaceMode.POD:
                await self._start_pause(pod, deadline)
            pod.change(replace(pod.record, made=True))
        except Exception:
            await self._remove(pod.id, pod)
            raise

    async def _start_pause(self, pod: Pod, deadline: Deadline) -> None:
        found = await pause.start(self._context, pod, self.runtime(pod), deadline)
        pod.change(replace(pod.record, pause=found))
        self._watch(pod)

    def _watch(self, pod: Pod) -> None:
        pod.pause = Watched.open(pod.record.pause)
        if pod.pause is not None:
            pod.pause.on_end(lambda: self._context.watchers.report(PodChanged(fact=pod.fact())))

    async def _remove(self, sandbox_id: SandboxId, pod: Pod | None) -> None:
        folder = PodBundle(self._context.root, sandbox_id)
        if pod is not None:
            if pod.record.pause is not None or folder.pause.exists():
                await pause.remove(self._context, pod, self.runtime(pod), Deadline.after(_KILL_SECONDS))
            pod.close()
        await asyncio.to_thread(parts.remove, self.made_cgroups, folder, pod)
        self._pods.pop(sandbox_id, None)
