"""Pods: namespaces, /dev/shm, files and cgroup that a pod's containers share.

Run by the runtime worker. Rules kept: pod.json is written before anything is made and removed after everything;
each step may find its work done already; nothing of a pod is left after `remove`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from pathlib import Path

import msgspec
from msgspec.structs import replace

from kernel.contracts.runtime import (
    NamespaceMode,
    PodChanged,
    PodFact,
    PodMade,
    PodRequest,
    Resources,
    UpdatePodRequest,
)
from kernel.errors import FailedPrecondition, InvalidInput, NotFound
from kernel.host import pidfd, thread
from kernel.host.aio import Deadline, KeyedLock
from kernel.ids import SandboxId
from services.runtime.cgroups import cgroup_path
from services.runtime.cgroups.cgroup_path import PodCgroup
from services.runtime.cgroups.made_cgroups import MadeCgroups
from services.runtime.containers import update
from services.runtime.context import Setting
from services.runtime.namespaces import namespace_pins, user_namespace
from services.runtime.node import host_support
from services.runtime.pods import pause
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records import bundle
from services.runtime.records.bundle import PodBundle, PodRecord
from services.runtime.spec import limits, sysctl, user_namespace_spec
from services.runtime.usage.usage_reading import ContainerPlace, PodPlace

_LOG = logging.getLogger(__name__)
_HOSTNAME = re.compile(r"[A-Za-z0-9._-]{0,64}", re.ASCII)
_DNS = re.compile(r"[^\s\x00-\x1f\x7f]{1,1024}")
_KILL_SECONDS = 30.0


class Pod:
    """A pod as the worker holds it in memory."""

    def __init__(self, record: PodRecord, folder: PodBundle) -> None:
        self.record = record
        self.folder = folder
        self.cgroup = cgroup_path.of_name(record.cgroup)
        self.pause: pidfd.Watched | None = None

    @property
    def request(self) -> PodRequest:
        """What it was made from."""
        return self.record.request

    @property
    def pause_pid(self) -> int:
        """The pause process's pid; 0 where none lives."""
        return self.pause.pid if self.pause and self.pause.alive else 0

    @property
    def pins(self) -> dict[str, Path]:
        """Where the namespaces are pinned that the pod does not share with the host. The network's is only made here
        where it must belong to the pod's user namespace."""
        found = {} if self.request.ipc is NamespaceMode.NODE else {"ipc": self.folder.ipc}
        on_host = self.request.network is NamespaceMode.NODE
        found |= {} if on_host else {"uts": self.folder.uts}
        if self.request.user_namespace is not None:
            found |= {"user": self.folder.user}
            found |= {} if on_host else {"net": self.folder.net}
        return found

    def fact(self) -> PodFact:
        """What the host says of it now."""
        held = self.record.made and all(namespace_pins.pinned(pin) for pin in self.pins.values())
        return PodFact(sandbox=self.request.sandbox, ready=held and (self.record.pause is None or self.pause_pid > 0))


class Pods:
    """All pods of this worker."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._pods: dict[SandboxId, Pod] = {}
        self._locks: KeyedLock[SandboxId] = KeyedLock()
        self.made_cgroups = MadeCgroups(setting.root, setting.cgroups)

    def get(self, sandbox: SandboxId) -> Pod:
        """A pod that is made; NotFound where there is none."""
        pod = self._pods.get(sandbox)
        if pod is None or not pod.record.made:
            raise NotFound(f"pod {sandbox} is not here")
        return pod

    def runtime(self, pod: Pod) -> OciRuntime:
        """The OCI runtime of a pod."""
        name = pod.request.handler or self._setting.config.runtime.default_handler
        runtime = self._setting.runtimes.get(name)
        if runtime is None:
            raise FailedPrecondition(f"pod {pod.request.sandbox}: its runtime handler {name!r} is configured no more")
        return runtime

    def all(self) -> tuple[Pod, ...]:
        """Return all pods, half-made ones included."""
        return tuple(self._pods.values())

    def facts(self) -> tuple[PodFact, ...]:
        """What the host says of all pods."""
        return tuple(pod.fact() for pod in self._pods.values() if pod.record.made)

    def ids(self) -> tuple[SandboxId, ...]:
        """All pods that something is there of."""
        return tuple(bundle.pods(self._setting.root))

    def places(
        self, wanted: tuple[SandboxId, ...], containers: dict[SandboxId, list[ContainerPlace]]
    ) -> list[PodPlace]:
        """Where statistics find the pods that are made: those named, or all."""
        paths = self._setting.config.paths
        chosen = [self._pods[one] for one in wanted if one in self._pods] if wanted else list(self._pods.values())
        return [
            PodPlace(
                sandbox=pod.request.sandbox,
                cgroup=pod.cgroup.path,
                netns=None if pod.request.network is NamespaceMode.NODE else paths.netns(pod.request.sandbox),
                pause_pid=pod.pause_pid,
                containers=tuple(containers.get(pod.request.sandbox, ())),
            )
            for pod in chosen
            if pod.record.made
        ]

    async def recover(self) -> None:
        """Take up the pods that an earlier worker made."""
        for sandbox in self.ids():
            folder = PodBundle(self._setting.root, sandbox)
            record = folder.record.read()
            if record is None or record.request.sandbox != sandbox:
                continue  # half-made or damaged: inventoried, and removed on request
            pod = self._pods[sandbox] = Pod(record, folder)
            self._watch(pod)

    async def make(self, request: PodRequest, deadline: Deadline) -> PodMade:
        """Make a pod, or find it made. After an error nothing is left."""
        cgroup = self._check(request)
        async with self._locks.hold(request.sandbox):
            pod = self._pods.get(request.sandbox)
            if pod is None or not pod.record.made:
                # by name, so that another default some day does not change the pod
                handler = request.handler or self._setting.config.runtime.default_handler
                record = PodRecord(request=replace(request, handler=handler), cgroup=cgroup.name)
                folder = PodBundle(self._setting.root, request.sandbox)
                pod = self._pods[request.sandbox] = Pod(record, folder)
                await self._make(pod, deadline)
            return PodMade(cgroup=pod.cgroup.path, pause_pid=pod.pause_pid)

    async def pause(self, pod: Pod, deadline: Deadline) -> int:
        """The pid of the pod's pause process, started now where the pod has had none."""
        async with self._locks.hold(pod.request.sandbox):
            if not pod.pause_pid:
                await self._start_pause(pod, deadline)
            return pod.pause_pid

    async def stop(self, sandbox: SandboxId) -> None:
        """End the pause process; the rest stays."""
        async with self._locks.hold(sandbox):
            pod = self._pods.get(sandbox)
            if pod is not None and pod.folder.pause.exists():
                await self._setting.cgroups.kill([pod.cgroup.pause(sandbox)], Deadline.after(_KILL_SECONDS))

    async def remove(self, sandbox: SandboxId) -> None:
        """Undo all that `make` did; gone already is success. The pod's containers have been removed before."""
        async with self._locks.hold(sandbox):
            pod = self._pods.get(sandbox)
            await self._remove(sandbox, pod)

    async def update(self, request: UpdatePodRequest, deadline: Deadline) -> None:
        """Give a pod other limits, where its cgroup is ours and not the kubelet's; they hold for what it has now."""
        async with self._locks.hold(request.sandbox):
            pod = self.get(request.sandbox)
            asked = replace(pod.request, resources=request.resources, overhead=request.overhead)
            await thread.run(lambda: self._limit(pod.cgroup, asked), deadline, f"pod {request.sandbox}")
            self._record(pod, msgspec.structs.replace(pod.record, request=asked))

    def close(self) -> None:
        """Watch the pause processes no longer."""
        for pod in self._pods.values():
            if pod.pause is not None:
                pod.pause.close()

    def _check(self, request: PodRequest) -> PodCgroup:
        """The pod's cgroup; InvalidInput for what is wrong with the request."""
        config = self._setting.config.runtime
        if request.handler and request.handler not in config.handlers:
            raise InvalidInput(f"runtime_handler: {request.handler[:64]!r} is not configured")
        if not _HOSTNAME.fullmatch(request.hostname):
            raise InvalidInput(f"config.hostname: {request.hostname[:80]!r} is not a host name of at most 64 letters")
        for name, values in (
            ("servers", request.dns_servers), ("searches", request.dns_searches), ("options", request.dns_options),
        ):  # fmt: skip
            for index, value in enumerate(values):
                if not _DNS.fullmatch(value):
                    raise InvalidInput(f"config.dns_config.{name}[{index}]: {value[:64]!r} is not one word")
        sysctl.check(request)
        user_namespace_spec.check_pod(request)
        return cgroup_path.pod_cgroup(
            self._setting.driver, request.cgroup_parent, config.cgroup_parent, request.sandbox, config.cgroup_roots
        )

    async def _make(self, pod: Pod, deadline: Deadline) -> None:
        sandbox = pod.request.sandbox
        try:
            if pod.request.user_namespace is not None:
                await thread.run(lambda: self._note(pod), deadline, f"pod {sandbox}")
                await user_namespace.pin(pod.pins, pod.request.user_namespace, deadline)
            # a thread of its own: it leaves its namespaces for the pod's
            await thread.run(lambda: self._make_parts(pod), deadline, f"pod {sandbox}")
            if pod.request.pid is NamespaceMode.POD:
                await self._start_pause(pod, deadline)
            self._record(pod, PodRecord(
                request=pod.request, cgroup=pod.record.cgroup, made=True, pause=pod.record.pause,
            ))  # fmt: skip
        except Exception:
            await self._remove(sandbox, pod)
            raise

    def _note(self, pod: Pod) -> None:
        pod.folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        pod.folder.record.write(pod.record)

    def _make_parts(self, pod: Pod) -> None:
        request, folder, owned = pod.request, pod.folder, pod.request.user_namespace is not None
        owner = request.user_namespace.root if request.user_namespace else (0, 0)
        self._note(pod)
        self._make_cgroup(pod)
        hostname = host_name(request)
        if request.ipc is not NamespaceMode.NODE:
            namespace_pins.mount_shm(folder.shm, self._setting.config.runtime.shm_size, owner)
        bundle.write(folder.hostname, f"{hostname}\n".encode(), 0o644)
        bundle.write(folder.resolv_conf, resolv_conf(request) or host_support.resolv_conf(), 0o644)
        if owned:
            os.chown(folder.path, 0, owner[1])
            folder.path.chmod(0o710)  # for the pause process's root
            for path in (folder.hostname, folder.resolv_conf):
                os.chown(path, *owner)
            if "uts" in pod.pins:
                namespace_pins.name(folder.uts, hostname)
            return
        namespace_pins.pin(
            None if request.ipc is NamespaceMode.NODE else folder.ipc,
            None if request.network is NamespaceMode.NODE else folder.uts,
            hostname,
        )

    def _make_cgroup(self, pod: Pod) -> None:
        self.made_cgroups.make(pod.cgroup, pod.request.sandbox)
        self._limit(pod.cgroup, pod.request)

    def _limit(self, cgroup: PodCgroup, request: PodRequest) -> None:
        """Limits of the whole pod, where its cgroup is ours: one that the kubelet made has the kubelet's."""
        if cgroup.driver == "cgroupfs" and not request.cgroup_parent:
            whole = limits.total(request.resources, request.overhead)
            if whole != Resources():
                self._setting.cgroups.delegate(cgroup.path)
                update.pod(self._setting.cgroups, cgroup.path, whole, f"pod {request.sandbox}")

    async def _start_pause(self, pod: Pod, deadline: Deadline) -> None:
        found = await pause.start(self._setting, pod.record, pod.folder, pod.cgroup, self.runtime(pod), deadline)
        self._record(pod, PodRecord(
            request=pod.request, cgroup=pod.record.cgroup, made=pod.record.made, pause=found,
        ))  # fmt: skip
        self._watch(pod)

    def _record(self, pod: Pod, record: PodRecord) -> None:
        pod.folder.record.write(record)
        pod.record = record

    def _watch(self, pod: Pod) -> None:
        pod.pause = pidfd.Watched.open(pod.record.pause)
        if pod.pause is not None:
            pod.pause.on_end(lambda: self._setting.watchers.tell(PodChanged(fact=pod.fact())))

    async def _remove(self, sandbox: SandboxId, pod: Pod | None) -> None:
        setting, folder = self._setting, PodBundle(self._setting.root, sandbox)
        if pod is not None:
            if pod.record.pause is not None or folder.pause.exists():
                await pause.remove(setting, sandbox, pod.cgroup, self.runtime(pod), Deadline.after(_KILL_SECONDS))
            if pod.pause is not None:
                pod.pause.close()
        await asyncio.to_thread(self._remove_parts, folder, pod)
        self._pods.pop(sandbox, None)

    def _remove_parts(self, folder: PodBundle, pod: Pod | None) -> None:
        for mounted in (folder.net, folder.ipc, folder.uts, folder.user, folder.shm):
            namespace_pins.unmount(mounted)
        if pod is not None:
            self.made_cgroups.remove(pod.cgroup.path, pod.request.sandbox)
        bundle.remove(folder.path)


def host_name(request: PodRequest) -> str:
    """What the pod's UTS namespace and /etc/hostname say."""
    if request.network is NamespaceMode.NODE:
        return host_support.host_name()
    return request.hostname or request.name[:64]


def resolv_conf(request: PodRequest) -> bytes:
    """The pod's resolv.conf; empty where the request says nothing, and the host's is to be used. Pure."""
    lines = []
    if request.dns_searches:
        lines.append(f"search {' '.join(request.dns_searches)}")
    lines += [f"nameserver {server}" for server in request.dns_servers]
    if request.dns_options:
        lines.append(f"options {' '.join(request.dns_options)}")
    return "".join(f"{line}\n" for line in lines).encode()
