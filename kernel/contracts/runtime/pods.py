"""Pods of the runtime worker: namespaces, cgroup and bundle of a sandbox. Pure."""

from __future__ import annotations

import enum

from kernel.contracts.contract import Message, Method, Nothing
from kernel.contracts.oci import IdMap
from kernel.ids import SandboxId


class NamespaceMode(enum.Enum):
    """CRI NamespaceMode."""

    POD = "pod"
    CONTAINER = "container"
    NODE = "node"
    TARGET = "target"


class Resources(Message, frozen=True, kw_only=True):
    """CRI LinuxContainerResources; 0 and empty mean not set."""

    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    memory_limit_in_bytes: int = 0
    oom_score_adj: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    hugepage_limits: dict[str, int] = {}
    """Bytes by page size."""
    unified: dict[str, str] = {}
    memory_swap_limit_in_bytes: int = 0


class SelinuxOptions(Message, frozen=True, kw_only=True):
    """CRI SELinuxOption; what is empty comes from the node's policy, the level from the pod."""

    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


class PodRequest(Message, frozen=True, kw_only=True):
    """A pod to make ready for containers."""

    sandbox: SandboxId
    name: str
    namespace: str
    uid: str
    attempt: int = 0
    handler: str = ""
    """Runtime handler; the default one where empty."""
    hostname: str = ""
    log_directory: str = ""
    cgroup_parent: str = ""
    network: NamespaceMode = NamespaceMode.POD
    pid: NamespaceMode = NamespaceMode.CONTAINER
    ipc: NamespaceMode = NamespaceMode.POD
    user_namespace: IdMap | None = None
    """Of the pod's user namespace, which owns all its others; None: it has none."""
    dns_servers: tuple[str, ...] = ()
    dns_searches: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    sysctls: dict[str, str] = {}
    privileged: bool = False
    selinux: SelinuxOptions | None = None
    """Of containers that name none themselves."""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    resources: Resources = Resources()
    """Of all containers together."""
    overhead: Resources = Resources()
    """What the pod takes beside them."""


class PodMade(Message, frozen=True, kw_only=True):
    """A pod that is ready."""

    cgroup: str
    """The pod's cgroup, as containers' paths start."""
    pause_pid: int = 0
    """Process 1 of the pod's shared PID namespace; 0 where there is none."""


class SandboxRequest(Message, frozen=True, kw_only=True):
    """A pod by sandbox id."""

    sandbox: SandboxId


class UpdatePodRequest(Message, frozen=True, kw_only=True):
    """New limits of a pod's containers together, and of what the pod takes beside them."""

    sandbox: SandboxId
    overhead: Resources
    resources: Resources


MAKE_POD = Method("make_pod", PodRequest, PodMade, deadline=60)
"""Made already is success."""
STOP_POD = Method("stop_pod", SandboxRequest, Nothing, deadline=60)
"""Kill what is left in the pod, its pause process included; the pod stays until it is removed."""
REMOVE_POD = Method("remove_pod", SandboxRequest, Nothing, deadline=60)
"""Remove namespaces, shm, cgroup and bundle; gone already is success."""
UPDATE_POD = Method("update_pod", UpdatePodRequest, Nothing, deadline=30)
"""Nothing to do where the pod's cgroup belongs to the caller."""
