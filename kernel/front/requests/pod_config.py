"""PodSandboxConfig: a pod's configuration, checked and translated into the requests of its workers. Pure.

A record keeps the configuration as it came, so a flow that goes on after a crash makes the same requests again.
InvalidInput names the field by its path in RunPodSandboxRequest: `config.linux.cgroup_parent`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from kernel.contracts.network import AttachRequest, PortMapping
from kernel.contracts.runtime import NamespaceMode, PodRequest
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.requests import fields, identity, namespaces, profiles, sysctls, user_namespaces
from kernel.front.requests.keys import SandboxKey
from kernel.front.requests.resources import resources_of
from kernel.ids import SandboxId

_PROTOCOLS: dict[int, Literal["tcp", "udp", "sctp"]] = {cri.TCP: "tcp", cri.UDP: "udp", cri.SCTP: "sctp"}
_SECURITY = "config.linux.security_context"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPlan:
    """The requests with which the workers make a pod."""

    pod: PodRequest
    attach: AttachRequest | None
    """None for a pod on the host's network."""


def sandbox_key(config: cri.PodSandboxConfig) -> SandboxKey:
    """Return PodSandboxConfig.metadata (PodSandboxMetadata), by which a repeated RunPodSandbox is recognised."""
    if not config.HasField("metadata"):
        fields.refuse("config.metadata", "is missing")
    metadata = config.metadata
    return (
        fields.name("config.metadata.name", metadata.name),
        fields.name("config.metadata.namespace", metadata.namespace),
        fields.name("config.metadata.uid", metadata.uid),
        metadata.attempt,
    )


def plan_pod(sandbox_id: SandboxId, config: cri.PodSandboxConfig, handler: str, handlers: Collection[str]) -> PodPlan:
    """Check a whole RunPodSandboxRequest and translate it.

    `handler` is RunPodSandboxRequest.runtime_handler, `handlers` are the names of those that are configured.
    """
    name, namespace, uid, attempt = sandbox_key(config)
    linux = config.linux
    network, pid, ipc = namespaces.of_pod(f"{_SECURITY}.namespace_options", linux.security_context.namespace_options)
    id_map = user_namespaces.of_pod(f"{_SECURITY}.namespace_options", linux.security_context.namespace_options)
    _check_security(linux.security_context)
    servers, searches, options = _dns(config.dns_config)
    labels = fields.strings("config.labels", config.labels)
    annotations = fields.strings("config.annotations", config.annotations)
    cgroup_parent = _cgroup_parent(linux.cgroup_parent)
    ports = _port_mappings(config.port_mappings)
    pod = PodRequest(
        sandbox_id=sandbox_id,
        name=name,
        namespace=namespace,
        uid=uid,
        attempt=attempt,
        handler=_handler(handler, handlers),
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
        sysctls=sysctls.plan(linux.sysctls, network=network, ipc=ipc),
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
        sandbox_id=sandbox_id,
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


def _handler(name: str, handlers: Collection[str]) -> str:
    """Return RunPodSandboxRequest.runtime_handler: one that is configured, or empty for the default one."""
    if name and name not in handlers:
        fields.refuse("runtime_handler", f"{name[:80]!r} is not configured", f"there are {', '.join(sorted(handlers))}")
    return name


def _dns(given: cri.DNSConfig) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return DNSConfig.servers, searches and options: the words of resolv.conf(5)."""

    def words(name: str, values: Sequence[str]) -> tuple[str, ...]:
        return tuple(fields.word(f"config.dns_config.{name}[{index}]", value) for index, value in enumerate(values))

    return words("servers", given.servers), words("searches", given.searches), words("options", given.options)


def _check_security(context: cri.LinuxSandboxSecurityContext) -> None:
    """Check LinuxSandboxSecurityContext.seccomp, apparmor, selinux_options, run_as_user, run_as_group and
    supplemental_groups. Of these only selinux_options are used: a pod's containers bring their own.

    readonly_rootfs and supplemental_groups_policy are ignored: the pause process has an empty root file system."""
    profiles.check(_SECURITY, context)
    identity.run_as(_SECURITY, context, username="")


def _cgroup_parent(value: str) -> str:
    """Return LinuxPodSandboxConfig.cgroup_parent: a path below the root of the cgroups, or a slice; may be empty."""
    fields.text("config.linux.cgroup_parent", value)
    if value and (".." in value.split("/") or not value.strip("/")):
        fields.refuse("config.linux.cgroup_parent", f"{value[:80]!r} is not a cgroup below the root")
    return value


def _port_mappings(given: Sequence[cri.PortMapping]) -> tuple[PortMapping, ...]:
    """Return PodSandboxConfig.port_mappings that have a host_port; without one a mapping is only documentation."""
    found = []
    for index, mapping in enumerate(given):
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
