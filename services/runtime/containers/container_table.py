"""Containers: created through conmon, started once, stopped, removed, and taken up again after this worker's death.

Run by the runtime worker. Rules kept: state.json says how far a container came before each step that cannot be
seen from outside; one that was left half-made is removed and made again; nothing of it is left after an error in
`create` or after `remove`, but its root file system and its log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec

from kernel.contracts.runtime import (
    ContainerFact,
    ContainerRequest,
    Created,
    CreateRequest,
    ExecRequest,
    Executed,
    Inspected,
    NamespaceMode,
    OpenAttachRequest,
    OpenExecRequest,
    Started,
    StopRequest,
    Updated,
    UpdateRequest,
)  # fmt: skip
from kernel.errors import FailedPrecondition, Internal, InvalidInput, NotFound
from kernel.host import pidfd, thread
from kernel.host.aio import Deadline, KeyedLock
from kernel.ids import ContainerId, SandboxId
from services.runtime.cgroups import cgroup_path
from services.runtime.cgroups.cgroup_path import PodCgroup
from services.runtime.checkpoints import restore
from services.runtime.checkpoints.dump import Checkpoints
from services.runtime.containers import update
from services.runtime.context import Setting
from services.runtime.exits import stop_signal
from services.runtime.exits.stop import Stops
from services.runtime.exits.watching import Container, Exits
from services.runtime.namespaces import mapped_mounts, mount_sources, namespace_pins
from services.runtime.node import devices, gather, host_support
from services.runtime.pods.pod_table import Pod, Pods
from services.runtime.programs import conmon
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records import bundle
from services.runtime.records.bundle import ContainerBundle, ContainerState
from services.runtime.security.profiles import Profiles
from services.runtime.sessions.exec_attach import Sessions
from services.runtime.sessions.exec_sync import Execs
from services.runtime.spec import additions, handler_rules, limits, oci_mounts, oci_spec, user, user_namespace_spec
from services.runtime.spec.confinement import Confinement
from services.runtime.usage.usage_reading import ContainerPlace

_LOG = logging.getLogger(__name__)
_UNDO_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A container as it will be."""

    spec: oci_spec.Spec
    created: Created
    """All but the pid."""
    state: ContainerState
    copies: tuple[mapped_mounts.Copy, ...]
    writes: tuple[limits.Write, ...]
    """What is written into its cgroup once that is there."""


class Containers:
    """All containers of this worker."""

    def __init__(self, setting: Setting, pods: Pods) -> None:
        self._setting = setting
        self._pods = pods
        self.profiles = Profiles(setting)
        self._containers: dict[ContainerId, Container] = {}
        self._unreadable: set[ContainerId] = set()
        """Containers of an earlier worker whose state.json does not read back; they may run."""
        self._locks: KeyedLock[ContainerId] = KeyedLock()
        self._exits = Exits(setting.tasks, setting.cgroups, setting.watchers)
        self._stops = Stops(setting.tasks, setting.cgroups)
        self._execs = Execs(setting.tasks, setting.cgroups, self._run_reaped)
        self.sessions = Sessions(setting)
        self.checkpoints = Checkpoints(setting, pods, self._runtime)

    def facts(self) -> tuple[ContainerFact, ...]:
        """What the host says of all containers."""
        return tuple(container.fact() for container in self._containers.values())

    def unreadable(self) -> tuple[ContainerId, ...]:
        """Return the containers whose state cannot be read."""
        return tuple(self._unreadable)

    def ids(self) -> tuple[ContainerId, ...]:
        """All containers that something is there of."""
        return tuple(bundle.containers(self._setting.root))

    def monitors(self) -> frozenset[str]:
        """The cgroups that have conmons in cgroups below them."""
        return frozenset(one.state.conmon_cgroup.rpartition("/")[0] for one in self._containers.values())

    def places(self) -> dict[SandboxId, list[ContainerPlace]]:
        """Where statistics find the containers that have a process, by pod."""
        found: dict[SandboxId, list[ContainerPlace]] = {}
        for container in self._containers.values():
            if container.state.process is not None and not container.exited.is_set():
                pid, cgroup = container.state.process.pid, container.state.limits_cgroup
                place = ContainerPlace(container=container.id, cgroup=cgroup, pid=pid)
                found.setdefault(container.state.sandbox, []).append(place)
        return found

    async def recover(self) -> None:
        """Take up the containers that an earlier worker made, and note the exits that nobody saw."""
        self.sessions.recover()
        for container in self.ids():
            folder = ContainerBundle(self._setting.root, container)
            state = await asyncio.to_thread(folder.state.read)
            if state is None and folder.state.exists():
                self._unreadable.add(container)
            if state is None or state.phase == "creating":
                continue  # half-made or damaged: inventoried, and made again or removed on request
            if restore.was_cut_off(state):
                state = await restore.adopt(folder, state, self._setting.runtimes.get(state.handler))
            found = Container(container, folder, state)
            self._follow(found)
            self.checkpoints.recover(found)

    async def create(self, request: CreateRequest, deadline: Deadline) -> Created:
        """Create a container, or find it created. After an error nothing is left."""
        pod = self._pods.get(request.sandbox)
        if request.restores:
            await restore.check(request, pod.request, self._pods.runtime(pod), deadline)
        deadline = deadline.earlier(self._pods.runtime(pod).settings.create_timeout)
        async with self._locks.hold(request.container):
            known = self._containers.get(request.container)
            if known is not None and known.state.created is not None:
                return known.state.created
            await self._undo(request.container)
            pid_namespace = await self._pid_namespace(pod, request, deadline)
            oci_mounts.check(request)
            await self._check_read_only(pod, request, deadline)
            await mount_sources.wait_answers(request, deadline)
            what = f"container {request.container}: create"
            found = await self.profiles.find(pod.request, request, deadline)
            plan = await thread.run(lambda: self._plan(pod, request, pid_namespace, found), deadline, what)
            shared = (pod.folder.resolv_conf, pod.folder.hostname, pod.folder.shm)
            await self.profiles.relabel(pod.request, shared, request, found, deadline)
            try:
                state = await self._launch(pod, request, plan, deadline)
            except Exception:
                await self._undo(request.container)
                raise
            self._follow(Container(request.container, ContainerBundle(self._setting.root, request.container), state))
            assert state.created is not None  # set by _launch
            return state.created

    async def start(self, request: ContainerRequest, deadline: Deadline) -> Started:
        """Let a created container's process run, once."""
        async with self._locks.hold(request.container):
            container = self.get(request.container)
            runtime = self._runtime(container)
            if container.state.restores and container.state.phase == "created":
                return await self._restore(container, runtime, deadline)
            if container.state.phase == "starting" and await runtime.state(container.id, deadline) != "created":
                self._keep(container, phase="started")
            if container.state.phase != "started":
                if container.exited.is_set():
                    raise FailedPrecondition(f"container {container.id} ended before it was started")
                self._keep(container, phase="starting", started_at=time.time_ns())
                try:
                    await runtime.start(container.id, container.bundle.runtime_log, deadline)
                except Internal:
                    self._keep(container, phase="created", started_at=0)
                    raise
                self._keep(container, phase="started")
            return Started(started_at=container.state.started_at, pid=container.fact().pid)

    async def _restore(self, container: Container, runtime: OciRuntime, deadline: Deadline) -> Started:
        """Start a container by restoring its processes; after an error it may be started again."""
        if container.exited.is_set():
            raise FailedPrecondition(f"container {container.id} ended before it was started")
        self._keep(container, phase="starting", started_at=time.time_ns())
        try:
            pod = self._pods.get(container.state.sandbox)
            enter = self._enter(pod, container.state)
            changes = await restore.start(self._setting, pod.request, container, runtime, enter, deadline)
        except Exception:
            await restore.undo(self._setting, container, runtime)
            self._keep(container, phase="created", started_at=0)
            raise
        self._keep(container, phase="started", **changes)
        self._follow(container)
        await asyncio.to_thread(restore.forget, self._setting, container.id)
        return Started(started_at=container.state.started_at, pid=container.fact().pid)

    async def stop(self, request: StopRequest) -> None:
        """Back once the container has exited; gone already is success.

        A container whose state cannot be read is removed at once: which process to signal is in its state.
        """
        if request.container in self._unreadable:
            await self.remove(request.container)
        container = self._containers.get(request.container)
        if container is not None:
            await self._ready_to_end(container)
            await self._stops.stop(container, request.timeout)

    async def remove(self, container: ContainerId) -> None:
        """Kill what runs and delete all of it; gone already is success."""
        async with self._locks.hold(container):
            known = self._containers.get(container)
            if known is not None:
                await self._ready_to_end(known)
                await self._stops.kill(known)
            await self._undo(container)

    async def kill_pod(self, sandbox: SandboxId) -> None:
        """Kill what is left in a pod's containers."""
        for container in self._of(sandbox):
            await self._ready_to_end(container)
        await asyncio.gather(*(self._stops.kill(container) for container in self._of(sandbox)))

    async def _ready_to_end(self, container: Container) -> None:
        """A frozen container hears no signal; one that was to be restored has nobody to hear it."""
        await self.checkpoints.thaw(container)
        if container.state.restores and container.state.phase == "created" and not container.exited.is_set():
            self._exits.end_unstarted(container)

    async def remove_pod(self, sandbox: SandboxId) -> None:
        """Remove a pod's containers, half-made ones too."""
        for container in self.ids():
            known = self._containers.get(container)
            state = known.state if known else ContainerBundle(self._setting.root, container).state.read()
            state = state or self._assumed(container)
            if state is not None and state.sandbox == sandbox:
                await self.remove(container)

    async def execute(self, request: ExecRequest, deadline: Deadline) -> Executed:
        """Run a command in a container."""
        container = self.get(request.container)
        return await self._execs.run(container, self._runtime(container), request, deadline)

    async def _run_reaped(
        self, container: Container, runtime: OciRuntime, request: ExecRequest, limit: Deadline
    ) -> Executed:
        ids = self._pods.get(container.state.sandbox).request.user_namespace
        return await self.sessions.run(container, runtime, ids, request, limit)

    async def open_exec(self, request: OpenExecRequest, deadline: Deadline) -> None:
        """Start a command in a container for a session."""
        container = self.get(request.container)
        ids = self._pods.get(container.state.sandbox).request.user_namespace
        await self.sessions.exec(container, self._runtime(container), ids, request, deadline)

    async def open_attach(self, request: OpenAttachRequest, deadline: Deadline) -> None:
        """Connect a session to a container."""
        await self.sessions.attach(self.get(request.container), request.session, deadline)

    async def reopen_log(self, request: ContainerRequest, deadline: Deadline) -> None:
        """Make the container's log anew at its path."""
        container = self.get(request.container)
        if container.exited.is_set():
            raise FailedPrecondition(f"container {container.id} is not running")
        made_from = await asyncio.to_thread(container.bundle.request.read)
        if made_from is None:
            raise Internal(f"container {container.id}: its request does not read back")
        pod = self._pods.get(container.state.sandbox)
        await conmon.reopen_log(container.bundle, container.conmon, pod.request, made_from, deadline)

    async def update(self, request: UpdateRequest, deadline: Deadline) -> Updated:
        """Change a container's limits."""
        async with self._locks.hold(request.container):
            container = self.get(request.container)
            runtime = self._runtime(container)
            return Updated(
                resources=await update.container(self._setting, container, runtime, request.resources, deadline)
            )

    async def inspect(self, request: ContainerRequest) -> Inspected:
        """The OCI specification that was run."""
        container = self.get(request.container)
        try:
            spec = await asyncio.to_thread(container.bundle.config.read_text)
        except OSError as error:
            raise Internal(f"container {container.id}: config.json: {error.strerror}") from error
        return Inspected(pid=container.fact().pid, runtime_spec=spec)

    def close(self) -> None:
        """Watch the containers no longer."""
        self.sessions.let_go()
        for container in self._containers.values():
            container.close()

    def get(self, container: ContainerId) -> Container:
        """A container; NotFound where there is none."""
        found = self._containers.get(container)
        if found is None:
            raise NotFound(f"container {container} is not here")
        return found

    def _of(self, sandbox: SandboxId) -> list[Container]:
        return [container for container in self._containers.values() if container.state.sandbox == sandbox]

    def _runtime(self, container: Container) -> OciRuntime:
        runtime = self._setting.runtimes.get(container.state.handler)
        if runtime is None:
            raise FailedPrecondition(
                f"container {container.id}: its runtime handler {container.state.handler!r} is configured no more"
            )
        return runtime

    def _keep(self, container: Container, **changes: object) -> None:
        """Change a container's state on disk, then in memory."""
        state = msgspec.structs.replace(container.state, **changes)
        container.bundle.state.write(state)
        container.state = state

    def _follow(self, container: Container) -> None:
        self._containers[container.id] = container
        self._exits.follow(container, self._after_exit)

    async def _after_exit(self, container: Container) -> None:
        """Without a PID namespace of its own, processes outlive the container's first one: they end with it."""
        await self._setting.cgroups.kill([container.state.cgroup], Deadline.after(_UNDO_SECONDS))

    async def _pid_namespace(self, pod: Pod, request: CreateRequest, deadline: Deadline) -> str:
        """The path of the PID namespace to join; empty for a fresh one or the host's."""
        field = "linux.security_context.namespace_options"
        if request.security.pid is NamespaceMode.POD:
            return f"/proc/{await self._pods.pause(pod, deadline)}/ns/pid"
        if request.security.pid is NamespaceMode.TARGET:
            target = self._containers.get(request.security.target) if request.security.target else None
            if target is None or target.state.sandbox != request.sandbox:
                raise InvalidInput(f"{field}.target_id: container {request.security.target} is not in this pod")
            if target.exited.is_set() or target.state.process is None:
                raise FailedPrecondition(f"{field}.target_id: container {target.id} is not running")
            return f"/proc/{target.state.process.pid}/ns/pid"
        return ""

    async def _check_read_only(self, pod: Pod, request: CreateRequest, deadline: Deadline) -> None:
        """FailedPrecondition where the pod's OCI runtime does not say that it knows recursive read-only mounts."""
        wanted = [index for index, mount in enumerate(request.mounts) if mount.recursive_read_only]
        if wanted:
            runtime = self._pods.runtime(pod)
            fact = await runtime.fact(deadline)
            if fact is None or not fact.recursive_read_only_mounts:
                raise FailedPrecondition(
                    f"mounts[{wanted[0]}].recursive_read_only: runtime handler {runtime.name!r} does not know them",
                    hint="use a handler whose `features` name the mount option rro",
                )

    def _plan(self, pod: Pod, request: CreateRequest, pid_namespace: str, found: Confinement) -> _Plan:
        """Check everything and write nothing but the image's volumes. May hang on a dead mount of the host."""
        config, setting, folder = self._setting.config, self._setting, pod.folder
        if request.security.privileged and not pod.request.privileged:
            raise InvalidInput("linux.security_context.privileged: the pod is not privileged")
        who, ids = user.resolve(request), pod.request.user_namespace
        user_namespace_spec.check(pod.request, request, who)
        runtime = self._pods.runtime(pod)
        handler_rules.check(request, runtime.name, runtime.settings)
        stop_with = stop_signal.choose(request.stop_signal, request.image.stop_signal)
        rootfs = config.paths.rootfs(request.container)
        on_host = pod.request.network is NamespaceMode.NODE
        if not rootfs.is_dir():
            raise FailedPrecondition(f"container {request.container}: its root file system {rootfs} is not there")
        netns = "" if on_host else _pinned_netns(config.paths.netns(request.sandbox))
        cgroup = pod.cgroup.container(request.container)
        sources = mount_sources.find(request, config.paths, config.runtime.absent_mount_sources_to_reject)
        cdi_edits = gather.cdi_edits(config.runtime, request)
        classes = gather.classes(config.runtime, pod.request, request, setting.cgroups.hierarchies)
        owner = who if config.runtime.device_ownership_from_security_context else None
        place = oci_spec.Place(
            rootfs=str(rootfs),
            cgroups_path=pod.cgroup.oci(request.container),
            netns=netns,
            ipc=str(folder.ipc),
            uts=str(folder.uts),
            pid=pid_namespace,
            sources=oci_mounts.Sources(
                shm=str(folder.shm),
                resolv_conf=str(folder.resolv_conf),
                hostname=str(folder.hostname),
                hosts="/etc/hosts" if on_host and Path("/etc/hosts").is_file() else "",
                mounts=mapped_mounts.plan(setting.root, request, sources.paths)[0],
                volumes=host_support.volumes(rootfs, request, ids.root if ids else (0, 0)),
                defaults=gather.mounts(config.runtime),
            ),
            devices=devices.find(
                request,
                config.runtime.additional_devices,
                cdi_edits.devices,
                owner,
                withhold=runtime.settings.privileged_without_host_devices,
            ),
            devices_withheld=runtime.settings.privileged_without_host_devices,
            confinement=found,
        )
        known = host_support.read(setting.cgroups.hierarchies)
        self.profiles.tell(request, known)
        defaults = gather.of_every_container(config.runtime, pod.request, may_raise=known.may_lower_oom_score)
        spec = oci_spec.plan(pod.request, request, who, known, place, defaults)
        hooks = gather.hook_edits(
            config.runtime, {**pod.request.annotations, **request.annotations}, spec,
            has_bind_mounts=bool(request.mounts),
        )  # fmt: skip
        if sources.missing:  # everything else is right: from here on the host is changed
            sources = mount_sources.make_missing(sources)
            made = replace(place.sources, mounts=mapped_mounts.plan(setting.root, request, sources.paths)[0])
            spec = oci_spec.plan(pod.request, request, who, known, replace(place, sources=made), defaults)
        spec = user_namespace_spec.settle(
            additions.apply(spec, cdi_edits + classes.edits + hooks), pod.request, str(folder.user)
        )
        restore.check_mounts(request, spec)
        return _Plan(
            spec=handler_rules.settle(spec, pod.request, request, runtime.settings),
            created=Created(
                pid=0, uid=who.uid, gid=who.gid, supplemental_groups=who.supplemental_groups, stop_signal=stop_with
            ),
            copies=mapped_mounts.plan(setting.root, request, sources.paths)[1],
            writes=classes.writes,
            state=ContainerState(
                phase="creating", sandbox=request.sandbox, handler=runtime.name, cgroup=cgroup,
                conmon_cgroup=self._monitors(pod).conmon(request.container), restores=request.restores,
                oom_kills_before=setting.cgroups.lost_oom_kills(pod.cgroup.path),
                poststop=any(stage == "poststop" for stage, _ in (*cdi_edits.hooks, *hooks.hooks)),
            ),
        )  # fmt: skip

    async def _launch(self, pod: Pod, request: CreateRequest, plan: _Plan, deadline: Deadline) -> ContainerState:
        """Write the bundle and have conmon create the container."""
        folder = ContainerBundle(self._setting.root, request.container)
        log = await thread.run(
            lambda: _write(folder, pod, request, plan), deadline, f"container {request.container}: bundle"
        )
        if request.restores:
            state = msgspec.structs.replace(plan.state, phase="created", created=plan.created)
            folder.state.write(state)
            return state
        await mapped_mounts.make(plan.copies, pod.request, pod.folder.user, deadline)
        launch = conmon.Launch(
            container=request.container, bundle=folder, runtime=self._setting.runtimes[plan.state.handler],
            log=log, terminal=request.tty, stdin=request.stdin,
            stdin_once=request.stdin_once,
        )  # fmt: skip
        pid = await conmon.create(self._setting.config.runtime.conmon, launch, self._enter(pod, plan.state), deadline)
        process = pidfd.identify(pid)
        if process is None:
            raise Internal(f"container {request.container}: its process ended before it was started")
        state = msgspec.structs.replace(
            plan.state, phase="created", process=process, conmon=conmon.conmon_of(folder),
            created=msgspec.structs.replace(plan.created, pid=pid),
            inner_cgroup=self._setting.cgroups.inner(plan.state.cgroup, pid),
        )  # fmt: skip
        if plan.writes:
            what = f"container {request.container}"
            cgroups, path = self._setting.cgroups, state.limits_cgroup
            await thread.run(lambda: update.write(cgroups, path, plan.writes, what), deadline, what)
        folder.state.write(state)
        return state

    def _enter(self, pod: Pod, state: ContainerState) -> conmon.Enter:
        """How conmon gets into its cgroup. Those of one's own choice are made when the first monitor needs them."""
        above = self._monitors(pod)
        if above == pod.cgroup:
            return partial(self._setting.cgroups.enter, state.conmon_cgroup)
        return partial(self._pods.made_cgroups.enter, above, state.conmon_cgroup)

    def _monitors(self, pod: Pod) -> PodCgroup:
        return cgroup_path.monitors(self._pods.runtime(pod).settings.conmon_cgroup, pod.cgroup)

    async def _undo(self, container: ContainerId) -> None:
        """Leave nothing of a container, whatever there is of it; the log and the root file system are not ours."""
        setting, folder = self._setting, ContainerBundle(self._setting.root, container)
        if not folder.path.exists():
            self._containers.pop(container, None)
            return
        known = self._containers.pop(container, None)
        state = known.state if known else await asyncio.to_thread(folder.state.read)
        if state is None:
            state = await asyncio.to_thread(self._assumed, container)
        deadline = Deadline.after(_UNDO_SECONDS)
        if state is None or state.phase == "creating":
            # it may be at work outside its cgroup still, and about to create the container
            await pidfd.kill(await asyncio.to_thread(conmon.strays, folder), _UNDO_SECONDS)
        if state is not None:
            await setting.cgroups.kill([state.conmon_cgroup, state.cgroup], deadline)
        if known is not None:
            known.close()
        runtimes = [setting.runtimes[state.handler]] if state and state.handler in setting.runtimes else []
        for runtime in runtimes:
            if state is None or state.cgroup.endswith(".scope") or state.poststop or state.phase == "creating":
                await runtime.delete(container, deadline)
        await asyncio.to_thread(self._remove_parts, container, folder, state, runtimes)
        self._unreadable.discard(container)

    def _assumed(self, container: ContainerId) -> ContainerState | None:
        """Return the state that a container without a readable one must have, by the cgroups of its pod.

        None if no pod has a cgroup for it: then it has no process.
        """
        for pod in self._pods.all():
            handler = pod.request.handler or self._setting.config.runtime.default_handler
            runtime = self._setting.runtimes.get(handler)
            monitors = cgroup_path.monitors(runtime.settings.conmon_cgroup if runtime else "", pod.cgroup)
            cgroup, conmon_cgroup = pod.cgroup.container(container), monitors.conmon(container)
            if self._setting.cgroups.exists(cgroup) or self._setting.cgroups.exists(conmon_cgroup):
                return ContainerState(
                    phase="creating", sandbox=pod.request.sandbox, handler=handler, cgroup=cgroup,
                    conmon_cgroup=conmon_cgroup,
                )  # fmt: skip
        return None

    def _remove_parts(
        self, container: ContainerId, folder: ContainerBundle, state: ContainerState | None, runtimes: list[OciRuntime]
    ) -> None:
        if state is not None:
            for path in (state.cgroup, state.conmon_cgroup):
                self._setting.cgroups.remove(path)
            above = state.conmon_cgroup.rpartition("/")[0]
            if above != state.cgroup.rpartition("/")[0]:
                self._pods.made_cgroups.remove(above)
        for runtime in runtimes:
            runtime.forget(container)
        mapped_mounts.remove(self._setting.root, container)
        bundle.remove(folder.path)


def _write(folder: ContainerBundle, pod: Pod, request: CreateRequest, plan: _Plan) -> Path | None:
    """The bundle's files, the state first; and the log."""
    folder.exit_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.state.write(plan.state)
    folder.request.write(request)
    bundle.write(folder.config, msgspec.json.encode(plan.spec))
    return conmon.prepare_log(pod.request, request)


def _pinned_netns(path: Path) -> str:
    """The pod's network namespace; FailedPrecondition where it is not there, or is the one we are in."""
    if not namespace_pins.pinned(path):
        raise FailedPrecondition(f"network namespace {path} is not there")
    if os.path.samefile(path, "/proc/self/ns/net"):
        raise FailedPrecondition(f"network namespace {path} is the daemon's own")
    return str(path)
