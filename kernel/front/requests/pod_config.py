"""A pod's CRI configuration into the requests of its workers; bad input named by field path. Pure.

A record keeps the configuration as it came, so a flow that goes on after a crash makes the same requests again.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from kernel.contracts.network import AttachRequest, PortMapping
from kernel.contracts.runtime import NamespaceMode, PodRequest, Resources
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.requests import fields, profiles, user_namespaces
from kernel.front.requests.keys import SandboxKey
from kernel.ids import SandboxId

MODES = {
    cri.POD: NamespaceMode.POD,
    cri.CONTAINER: NamespaceMode.CONTAINER,
    cri.NODE: NamespaceMode.NODE,
    cri.TARGET: NamespaceMode.TARGET,
}
_PROTOCOLS: dict[int, Literal["tcp", "udp", "sctp"]] = {cri.TCP: "tcp", cri.UDP: "udp", cri.SCTP: "sctp"}
_IPC_SYSCTL = re.compile(r"(kernel\.(shm[a-z_]+|msg[a-z_]+|sem)|fs\.mqueue\.[a-z_]+)", re.ASCII)
_NET_SYSCTL = re.compile(r"net(\.[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)+", re.ASCII)
_SYSCTL_VALUE = re.compile(r"[A-Za-z0-9 \t,._:-]{0,256}", re.ASCII)
_UNIFIED_KEY = re.compile(r"[a-z][a-z0-9]*(\.[a-z0-9_]+)+", re.ASCII)
_PAGE_SIZE = re.compile(r"[1-9][0-9]{0,4}(KB|MB|GB)", re.ASCII)
_MAX_BYTES = (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPlan:
    """What the workers are asked to make a pod."""

    pod: PodRequest
    attach: AttachRequest | None
    """None for a pod on the host's network."""


def sandbox_key(config: cri.PodSandboxConfig) -> SandboxKey:
    """What a repeated RunPodSandbox is known by."""
    if not config.HasField("metadata"):
        fields.refuse("config.metadata", "is missing")
    metadata = config.metadata
    return (
        fields.name("config.metadata.name", metadata.name),
        fields.name("config.metadata.namespace", metadata.namespace),
        fields.name("config.metadata.uid", metadata.uid),
        metadata.attempt,
    )


def handler_of(name: str, handlers: Collection[str]) -> str:
    """A runtime handler that is configured, or the default one."""
    if name and name not in handlers:
        fields.refuse("runtime_handler", f"{name[:80]!r} is not configured", f"there are {', '.join(sorted(handlers))}")
    return name


def plan_pod(sandbox: SandboxId, config: cri.PodSandboxConfig, handler: str, handlers: Collection[str]) -> PodPlan:
    """Check a whole RunPodSandbox request and translate it."""
    name, namespace, uid, attempt = sandbox_key(config)
    linux, dns = config.linux, config.dns_config
    network, pid, ipc = _namespaces(linux.security_context.namespace_options)
    id_map = user_namespaces.of_pod(f"{_SECURITY}.namespace_options", linux.security_context.namespace_options)
    _check_sandbox_security(linux.security_context)
    servers = tuple(fields.word(f"config.dns_config.servers[{i}]", s) for i, s in enumerate(dns.servers))
    searches = tuple(fields.word(f"config.dns_config.searches[{i}]", s) for i, s in enumerate(dns.searches))
    options = tuple(fields.word(f"config.dns_config.options[{i}]", s) for i, s in enumerate(dns.options))
    labels = fields.strings("config.labels", config.labels)
    annotations = fields.strings("config.annotations", config.annotations)
    cgroup_parent = _cgroup_parent(linux.cgroup_parent)
    ports = _port_mappings(config)
    pod = PodRequest(
        sandbox=sandbox,
        name=name,
        namespace=namespace,
        uid=uid,
        attempt=attempt,
        handler=handler_of(handler, handlers),
        hostname=fields.hostname("config.hostname", config.hostname),
        log_directory=fields.path("config.log_directory", config.log_directory) if config.log_directory else "",
        cgroup_parent=cgroup_parent,
        network=network,
        pid=pid,
        ipc=ipc,
        user_namespace=id_map,
        dns_servers=servers,
        dns_searches=searches,
        dns_options=options,
        sysctls=_sysctls(config, network, ipc),
        privileged=linux.security_context.privileged,
        selinux=profiles.selinux(_SECURITY, linux.security_context),
        labels=labels,
        annotations=annotations,
        resources=resources_of("config.linux.resources", linux.resources),
        overhead=resources_of("config.linux.overhead", linux.overhead),
    )
    if network is NamespaceMode.NODE:
        return PodPlan(pod=pod, attach=None)
    attach = AttachRequest(
        sandbox=sandbox,
        name=name,
        namespace=namespace,
        uid=uid,
        port_mappings=ports,
        annotations=annotations,
        dns_servers=servers,
        dns_searches=searches,
        dns_options=options,
        cgroup_parent=cgroup_parent,
        user_namespace=id_map is not None,
    )
    return PodPlan(pod=pod, attach=attach)


def mode_of(field: str, value: int, *allowed: NamespaceMode) -> NamespaceMode:
    """A namespace mode that makes sense for its field."""
    mode = next((mine for theirs, mine in MODES.items() if theirs == value), None)
    if mode not in allowed:
        fields.refuse(field, f"{mode.name if mode else value} is not one of {', '.join(a.name for a in allowed)}")
    return mode


def check_profiles(field: str, context: cri.LinuxSandboxSecurityContext | cri.LinuxContainerSecurityContext) -> None:
    """Refuse profiles that cannot be."""
    profiles.check(field, context)


def check_identity(
    field: str, context: cri.LinuxSandboxSecurityContext | cri.LinuxContainerSecurityContext, username: str
) -> tuple[int | None, int | None, tuple[int, ...]]:
    """User id, group id and supplemental groups, where given."""
    user = group = None
    if context.HasField("run_as_user"):
        user = fields.user_id(f"{field}.run_as_user", context.run_as_user.value)
    if context.HasField("run_as_group"):
        group = fields.user_id(f"{field}.run_as_group", context.run_as_group.value)
        if user is None and not username:
            fields.refuse(f"{field}.run_as_group", "is given without a user", "give run_as_user or run_as_username too")
    groups = tuple(context.supplemental_groups)
    if len(groups) > fields.MAX_GROUPS:
        fields.refuse(f"{field}.supplemental_groups", f"are more than {fields.MAX_GROUPS}")
    for index, value in enumerate(groups):
        fields.user_id(f"{field}.supplemental_groups[{index}]", value)
    return user, group, groups


def resources_of(field: str, given: cri.LinuxContainerResources) -> Resources:
    """Limits within their ranges. -1 takes a CPU quota or a swap limit away."""
    for key, value in given.unified.items():
        if not _UNIFIED_KEY.fullmatch(key) or key.startswith("cgroup."):
            fields.refuse(f"{field}.unified", f"{key[:80]!r} is not a controller's file")
        fields.text(f"{field}.unified[{key}]", value)
    hugepages: dict[str, int] = {}
    for index, limit in enumerate(given.hugepage_limits):
        if not _PAGE_SIZE.fullmatch(limit.page_size):
            fields.refuse(
                f"{field}.hugepage_limits[{index}].page_size", f"{limit.page_size[:80]!r} is not a size such as '2MB'"
            )
        hugepages[limit.page_size] = fields.integer(
            f"{field}.hugepage_limits[{index}].limit", limit.limit, 0, _MAX_BYTES
        )
    return Resources(
        cpu_period=fields.integer(f"{field}.cpu_period", given.cpu_period, 0, 1_000_000),
        cpu_quota=fields.integer(f"{field}.cpu_quota", given.cpu_quota, -1, _MAX_BYTES),
        cpu_shares=fields.integer(f"{field}.cpu_shares", given.cpu_shares, 0, _MAX_BYTES),
        memory_limit_in_bytes=fields.integer(
            f"{field}.memory_limit_in_bytes", given.memory_limit_in_bytes, 0, _MAX_BYTES
        ),
        oom_score_adj=fields.integer(f"{field}.oom_score_adj", given.oom_score_adj, -1000, 1000),
        cpuset_cpus=fields.cpuset(f"{field}.cpuset_cpus", given.cpuset_cpus),
        cpuset_mems=fields.cpuset(f"{field}.cpuset_mems", given.cpuset_mems),
        hugepage_limits=hugepages,
        unified=dict(given.unified),
        memory_swap_limit_in_bytes=fields.integer(
            f"{field}.memory_swap_limit_in_bytes", given.memory_swap_limit_in_bytes, -1, _MAX_BYTES
        ),
    )


_SECURITY = "config.linux.security_context"


def _namespaces(options: cri.NamespaceOption) -> tuple[NamespaceMode, NamespaceMode, NamespaceMode]:
    where, mode = f"{_SECURITY}.namespace_options", NamespaceMode
    return (
        mode_of(f"{where}.network", options.network, mode.POD, mode.NODE),
        mode_of(f"{where}.pid", options.pid, mode.POD, mode.CONTAINER, mode.NODE),
        mode_of(f"{where}.ipc", options.ipc, mode.POD, mode.NODE),
    )


def _check_sandbox_security(context: cri.LinuxSandboxSecurityContext) -> None:
    check_profiles(_SECURITY, context)
    check_identity(_SECURITY, context, username="")


def _cgroup_parent(value: str) -> str:
    fields.text("config.linux.cgroup_parent", value)
    if value and (".." in value.split("/") or not value.strip("/")):
        fields.refuse("config.linux.cgroup_parent", f"{value[:80]!r} is not a cgroup below the root")
    return value


def _port_mappings(config: cri.PodSandboxConfig) -> tuple[PortMapping, ...]:
    """Mappings with a host port; one without is only a remark of the pod's author."""
    found = []
    for index, mapping in enumerate(config.port_mappings):
        field = f"config.port_mappings[{index}]"
        if mapping.protocol not in _PROTOCOLS:
            fields.refuse(f"{field}.protocol", f"{mapping.protocol} is not TCP, UDP or SCTP")
        container_port = fields.integer(f"{field}.container_port", mapping.container_port, 1, 65535)
        host_port = fields.integer(f"{field}.host_port", mapping.host_port, 0, 65535)
        host_ip = fields.address(f"{field}.host_ip", mapping.host_ip)
        if host_port:
            protocol = _PROTOCOLS[mapping.protocol]
            found.append(
                PortMapping(protocol=protocol, container_port=container_port, host_port=host_port, host_ip=host_ip)
            )
    return tuple(found)


def _sysctls(config: cri.PodSandboxConfig, network: NamespaceMode, ipc: NamespaceMode) -> dict[str, str]:
    """Only what belongs to a namespace of the pod's own (CVE-2022-0811, CVE-2022-0532)."""
    for key, value in config.linux.sysctls.items():
        field = f"config.linux.sysctls[{key[:80]}]"
        name = _dotted(key)
        if _IPC_SYSCTL.fullmatch(name):
            shared = ipc is NamespaceMode.NODE
        elif _NET_SYSCTL.fullmatch(name):
            shared = network is NamespaceMode.NODE
        else:
            fields.refuse(field, "is not a sysctl of a namespace", "kernel.shm*, kernel.msg*, fs.mqueue.*, net.* are")
        if shared:
            fields.refuse(field, "would change the host, whose namespace the pod uses")
        if not _SYSCTL_VALUE.fullmatch(value):
            fields.refuse(field, f"{value[:80]!r} has characters that no sysctl takes")
    return dict(config.linux.sysctls)


def _dotted(key: str) -> str:
    """sysctl.d(5): where a slash comes first, slashes part the name and dots belong to it."""
    slash, dot = key.find("/"), key.find(".")
    return key if slash < 0 or 0 <= dot < slash else key.translate(str.maketrans("./", "/."))
