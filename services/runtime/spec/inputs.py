"""The inputs of an OCI specification beside the CRI request: the host, the container's place, the defaults. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from services.runtime.spec.oci_mounts import Sources
from services.runtime.spec.security_context.confinement import Confinement

Spec = dict[str, object]
"""A part of config.json, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNode:
    """A device node of the host, as the container gets it (config-linux.md, Devices)."""

    path: str
    """Absolute path in the container."""
    kind: Literal["c", "b", "p"]
    """Character device, block device or FIFO."""
    major: int
    minor: int
    mode: int
    """Permission bits."""
    uid: int
    gid: int
    permissions: str = "rwm"
    """The access that the cgroup allows: letters of `rwm` (read, write, mknod)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Properties of the host and of the runtime worker's own process that limit a container."""

    unified: bool
    """Whether the host has cgroup v2 alone."""
    controllers: frozenset[str]
    """Names of the cgroup controllers that can be used."""
    swap_accounting: bool
    """Whether memory and swap together can be limited."""
    bounding: frozenset[str]
    """The worker's capability bounding set, names without CAP_."""
    oom_score_adj: int
    """The worker's own score."""
    may_lower_oom_score: bool
    """Whether the worker has CAP_SYS_RESOURCE."""
    hostname: str = ""
    cpus: frozenset[int] | None = None
    """CPUs that a cpuset may have; None if the host does not list them."""
    mems: frozenset[int] | None = None
    """Memory nodes that a cpuset may have; None if the host does not list them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The places of the container's parts on the host."""

    rootfs: str
    cgroups_path: str
    """`linux.cgroupsPath`."""
    netns: str = ""
    """Pin of the pod's network namespace; the next two likewise."""
    ipc: str = ""
    uts: str = ""
    pid: str = ""
    """The PID namespace to join; empty for a new one, or for the host's if the request has NODE."""
    sources: Sources
    devices: tuple[DeviceNode, ...] = ()
    devices_withheld: bool = False
    """Whether a privileged container too may use no other devices than these."""
    confinement: Confinement = field(default_factory=Confinement)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """The configuration's defaults for every container."""

    capabilities: tuple[str, ...]
    pids_limit: int
    """Most processes and threads; 0 for no limit."""
    env: Mapping[str, str] = field(default_factory=dict)
    rlimits: tuple[Spec, ...] = ()
    """`process.rlimits`."""
    umask: int | None = None
    """None for the OCI runtime's own."""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    """Values by name with dots; those of the pod's own namespaces alone."""
