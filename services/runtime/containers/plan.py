"""Plans a container: its OCI specification, cgroup, mounts and first state, worked out from its request.

Run by the runtime worker, the part that looks at the host in a throw-away thread, because a dead mount can make it
hang. Rules kept: the whole request is checked before the host is changed; then only folders
are made, for mount sources that are missing. Before that only the folders of the image's volumes are made, in the
container's own root.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from kernel.contracts.runtime import Created, CreateRequest, NamespaceMode
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.host import thread
from kernel.host.aio import Deadline
from kernel.ids import ContainerId
from services.runtime.checkpoints import restore
from services.runtime.containers import monitors
from services.runtime.context import Context
from services.runtime.exits import stop_signal
from services.runtime.namespaces import declared_volumes, mapped_mounts, mount_sources, namespace_pins, slow_sources
from services.runtime.node import devices, gather, host_support
from services.runtime.pods.pod_state import Pod
from services.runtime.pods.pod_table import Pods
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records.bundle import ContainerState
from services.runtime.records.container import Container
from services.runtime.security.profiles import Profiles
from services.runtime.spec import additions, handler_rules, inputs, limits, oci_mounts, oci_spec, user_namespace_spec
from services.runtime.spec.security_context import user
from services.runtime.spec.security_context.confinement import Confinement
from services.runtime.spec.security_context.user import User


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A planned container."""

    spec: inputs.Spec
    created: Created
    """The reply to its creation, but for the pid."""
    state: ContainerState
    copies: tuple[mapped_mounts.Copy, ...]
    """The id-mapped copies of its volumes."""
    writes: tuple[limits.Write, ...]
    """Files to write in its cgroup, once that is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A container to plan, and the facts that were looked up for it."""

    pod: Pod
    request: CreateRequest
    runtime: OciRuntime
    confinement: Confinement
    pid_namespace: str
    """The path of the PID namespace to join; empty for a fresh one or the host's."""


async def pid_namespace(
    pods: Pods, pod: Pod, request: CreateRequest, target: Container | None, deadline: Deadline
) -> str:
    """Return the path of the PID namespace to join; empty for a fresh one or the host's.

    `target`: the container that the request names, if it exists. InvalidInput or FailedPrecondition if its namespace
    cannot be joined.
    """
    if request.security.pid is NamespaceMode.POD:
        return f"/proc/{await pods.pause(pod, deadline)}/ns/pid"
    if request.security.pid is not NamespaceMode.TARGET:
        return ""
    field = "linux.security_context.namespace_options.target_id"
    if target is None or target.state.sandbox_id != request.sandbox_id:
        raise InvalidInput(f"{field}: container {request.security.target} is not in this pod")
    if target.exited.is_set() or target.state.process is None:
        raise FailedPrecondition(f"{field}: container {target.id} is not running")
    return f"/proc/{target.state.process.pid}/ns/pid"


async def prepare(
    context: Context, profiles: Profiles, pod: Pod, runtime: OciRuntime, request: CreateRequest, pid_path: str,
    deadline: Deadline,
) -> Plan:  # fmt: skip
    """Check a request, plan its container, and relabel what is mounted for it.

    `pid_path` is the result of `pid_namespace`. InvalidInput (naming the field) or FailedPrecondition if the
    container cannot be; then nothing of the host is changed.
    """
    oci_mounts.check(request)
    await _check_read_only_mounts(request, runtime, deadline)
    await slow_sources.wait_answers(request, deadline)
    confinement = await profiles.find(pod.request, request, deadline)
    wanted = _Wanted(pod=pod, request=request, runtime=runtime, confinement=confinement, pid_namespace=pid_path)
    plan = await thread.run(
        lambda: _make(context, wanted, profiles), deadline, f"container {request.container_id}: create"
    )
    shared = (pod.folder.resolv_conf, pod.folder.hostname, pod.folder.shm)
    await profiles.relabel(pod.request, shared, request, confinement, deadline)
    return plan


def _make(context: Context, wanted: _Wanted, profiles: Profiles) -> Plan:
    """Plan a container. Blocks, and may hang on a dead mount of the host."""
    pod, request, runtime, config = wanted.pod, wanted.request, wanted.runtime, context.config.runtime
    who = _check(wanted)
    stop_with = stop_signal.choose(request.stop_signal, request.image.stop_signal)
    rootfs, netns = _rootfs(context, request.container_id), _network_namespace(context, pod)
    sources = mount_sources.find(request, context.config.paths, config.absent_mount_sources_to_reject)
    cdi_edits = gather.cdi_edits(config, request)
    classes = gather.classes(config, pod.request, request, context.cgroups.hierarchies)
    place = inputs.Place(
        rootfs=str(rootfs),
        cgroups_path=pod.cgroup.oci(request.container_id),
        netns=netns,
        ipc=str(pod.folder.ipc),
        uts=str(pod.folder.uts),
        pid=wanted.pid_namespace,
        sources=_mount_sources(context, wanted, rootfs, sources),
        devices=_devices(context, wanted, cdi_edits, who),
        devices_withheld=runtime.settings.privileged_without_host_devices,
        confinement=wanted.confinement,
    )
    host = host_support.read(context.cgroups.hierarchies)
    profiles.log_missing(request, host)
    defaults = gather.container_defaults(config, pod.request, may_raise=host.may_lower_oom_score)
    spec = oci_spec.plan(pod.request, request, who, host, place, defaults)
    hooks = gather.hook_edits(
        config, {**pod.request.annotations, **request.annotations}, spec, has_bind_mounts=bool(request.mounts)
    )
    if sources.missing:  # all checks have passed: from here on the host is changed
        sources = mount_sources.make_missing(sources)
        made = replace(place.sources, mounts=mapped_mounts.plan(context.root, request, sources.paths)[0])
        spec = oci_spec.plan(pod.request, request, who, host, replace(place, sources=made), defaults)
    spec = additions.apply(spec, cdi_edits + classes.edits + hooks)
    spec = user_namespace_spec.apply(spec, pod.request, str(pod.folder.user))
    restore.check_mounts(request, spec)
    return Plan(
        spec=handler_rules.apply(spec, pod.request, request, runtime.settings),
        created=Created(
            pid=0, uid=who.uid, gid=who.gid, supplemental_groups=who.supplemental_groups, stop_signal=stop_with
        ),
        copies=mapped_mounts.plan(context.root, request, sources.paths)[1],
        writes=classes.writes,
        state=_first_state(context, wanted, poststop=_has_poststop(cdi_edits, hooks)),
    )


async def _check_read_only_mounts(request: CreateRequest, runtime: OciRuntime, deadline: Deadline) -> None:
    """Raise FailedPrecondition if a mount is to be read-only recursively and the OCI runtime does not name that among
    its features."""
    wanted = [index for index, mount in enumerate(request.mounts) if mount.recursive_read_only]
    if wanted:
        fact = await runtime.fact(deadline)
        if fact is None or not fact.recursive_read_only_mounts:
            raise FailedPrecondition(
                f"mounts[{wanted[0]}].recursive_read_only: runtime handler {runtime.name!r} does not know them",
                hint="use a handler whose `features` name the mount option rro",
            )


def _check(wanted: _Wanted) -> User:
    """Return the user of the container's process. InvalidInput if the request is wrong on any host."""
    pod, request = wanted.pod.request, wanted.request
    if request.security.privileged and not pod.privileged:
        raise InvalidInput("linux.security_context.privileged: the pod is not privileged")
    who = user.resolve(request)
    user_namespace_spec.check(pod, request, who)
    handler_rules.check(request, wanted.runtime.name, wanted.runtime.settings)
    return who


def _rootfs(context: Context, container_id: ContainerId) -> Path:
    """Return the path at which storage has mounted the container's root; FailedPrecondition if it has not."""
    rootfs = context.config.paths.rootfs(container_id)
    if not rootfs.is_dir():
        raise FailedPrecondition(f"container {container_id}: its root file system {rootfs} is not there")
    return rootfs


def _network_namespace(context: Context, pod: Pod) -> str:
    """Return the path of the pod's network namespace; empty for the host's.

    FailedPrecondition if it is not there, or is the one that this process is in.
    """
    if pod.request.network is NamespaceMode.NODE:
        return ""
    path = context.config.paths.netns(pod.id)
    if not namespace_pins.pinned(path):
        raise FailedPrecondition(f"network namespace {path} is not there")
    if os.path.samefile(path, "/proc/self/ns/net"):
        raise FailedPrecondition(f"network namespace {path} is the daemon's own")
    return str(path)


def _mount_sources(context: Context, wanted: _Wanted, rootfs: Path, found: mount_sources.Found) -> oci_mounts.Sources:
    pod, request, ids = wanted.pod, wanted.request, wanted.pod.request.user_namespace
    on_host = pod.request.network is NamespaceMode.NODE
    return oci_mounts.Sources(
        shm=str(pod.folder.shm),
        resolv_conf=str(pod.folder.resolv_conf),
        hostname=str(pod.folder.hostname),
        hosts="/etc/hosts" if on_host and Path("/etc/hosts").is_file() else "",
        mounts=mapped_mounts.plan(context.root, request, found.paths)[0],
        volumes=declared_volumes.make(rootfs, request, ids.root if ids else (0, 0)),
        defaults=gather.mounts(context.config.runtime),
    )


def _devices(context: Context, wanted: _Wanted, cdi_edits: additions.Edits, who: User) -> tuple[inputs.DeviceNode, ...]:
    config = context.config.runtime
    return devices.find(
        wanted.request,
        config.additional_devices,
        cdi_edits.devices,
        who if config.device_ownership_from_security_context else None,
        withhold=wanted.runtime.settings.privileged_without_host_devices,
    )


def _has_poststop(*edits: additions.Edits) -> bool:
    return any(stage == "poststop" for one in edits for stage, _ in one.hooks)


def _first_state(context: Context, wanted: _Wanted, *, poststop: bool) -> ContainerState:
    pod, request = wanted.pod, wanted.request
    return ContainerState(
        phase="creating",
        sandbox_id=request.sandbox_id,
        handler=wanted.runtime.name,
        cgroup=pod.cgroup.container(request.container_id),
        conmon_cgroup=monitors.above(wanted.runtime, pod).conmon(request.container_id),
        restores=request.restores,
        oom_kills_before=context.cgroups.lost_oom_kills(pod.cgroup.path),
        poststop=poststop,
    )
