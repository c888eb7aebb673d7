"""Pods of the runtime worker: namespaces, cgroup and bundle of a sandbox. Pure."""

from __future__ import annotations

import enum

import msgspec

from kernel.contracts.definition import Message, Method, Nothing
from kernel.contracts.oci import IdMap
from kernel.ids import SandboxId


class NamespaceMode(enum.Enum):
    """The owner of a container's namespace (CRI NamespaceMode)."""

    POD = "pod"
    """All containers of the pod share it."""
    CONTAINER = "container"
    """It is the container's own."""
    NODE = "node"
    """It is the host's."""
    TARGET = "target"
    """It is another container's."""


class Resources(Message, frozen=True, kw_only=True):
    """Limits of a container or pod (CRI LinuxContainerResources); 0 and empty mean not set."""

    cpu_period: int = 0
    """Microseconds."""
    cpu_quota: int = 0
    """Microseconds of CPU time per period."""
    cpu_shares: int = 0
    """Relative weight; 1024 is the kernel's default."""
    memory_limit_in_bytes: int = 0
    oom_score_adj: int = 0
    """-1000 to 1000 (proc(5))."""
    cpuset_cpus: str = ""
    """CPUs as a list of ranges: `0-3,7`."""
    cpuset_mems: str = ""
    """Memory nodes as a list of ranges."""
    hugepage_limits: dict[str, int] = {}
    """Bytes by page size: `2MB`."""
    unified: dict[str, str] = {}
    """Values by the name of the cgroup v2 file that they are written to."""
    memory_swap_limit_in_bytes: int = 0
    """Memory and swap together."""


class SelinuxOptions(Message, frozen=True, kw_only=True):
    """Parts of an SELinux context (CRI SELinuxOption).

    Parts that are empty come from the node's policy, the level from the pod.
    """

    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


class PodRequest(Message, frozen=True, kw_only=True):
    """A pod to make ready for containers (CRI PodSandboxConfig and LinuxPodSandboxConfig)."""

    sandbox_id: SandboxId = msgspec.field(name="sandbox")
    name: str
    """The pod's name. Together with the next three fields this is CRI PodSandboxMetadata."""
    namespace: str
    uid: str
    attempt: int = 0
    handler: str = ""
    """Runtime handler; the default one if empty."""
    hostname: str = ""
    """The host name; the pod's name if empty. A pod in the host's network has the host's."""
    log_directory: str = ""
    """Absolute path of the folder of its containers' logs."""
    cgroup_parent: str = ""
    """The pod's cgroup or slice, which the caller has made; empty if crisp makes one."""
    network: NamespaceMode = NamespaceMode.POD
    pid: NamespaceMode = NamespaceMode.CONTAINER
    ipc: NamespaceMode = NamespaceMode.POD
    user_namespace: IdMap | None = None
    """The map of the pod's user namespace, which owns the pod's other namespaces; None if it has none."""
    dns_servers: tuple[str, ...] = ()
    """Name servers. This and the next two make the pod's resolv.conf; the host's file is used if all three are
    empty."""
    dns_searches: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    sysctls: dict[str, str] = {}
    """Values by name: `net.core.somaxconn`."""
    privileged: bool = False
    """Whether it may have privileged containers."""
    selinux: SelinuxOptions | None = None
    """The options of containers that set none themselves."""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    resources: Resources = Resources()
    """The limits of all its containers together."""
    overhead: Resources = Resources()
    """Resources that the pod takes in addition to its containers."""


class PodMade(Message, frozen=True, kw_only=True):
    """A pod that is ready."""

    cgroup: str
    """The pod's cgroup: the beginning of its containers' cgroup paths."""
    pause_pid: int = 0
    """Id on the host of process 1 of the pod's shared PID namespace; 0 if there is none."""


class SandboxRequest(Message, frozen=True, kw_only=True):
    """A pod by its sandbox's id."""

    sandbox_id: SandboxId


class UpdatePodRequest(Message, frozen=True, kw_only=True):
    """New limits of a pod (CRI UpdatePodSandboxResources)."""

    sandbox_id: SandboxId
    overhead: Resources
    """Resources that the pod takes in addition to its containers."""
    resources: Resources
    """The limits of all its containers together."""


MAKE_POD = Method("make_pod", PodRequest, PodMade, deadline=60)
"""Make a pod ready for containers. One that is made already is success."""
STOP_POD = Method("stop_pod", SandboxRequest, Nothing, deadline=60)
"""Kill all processes left in the pod, its pause process included. The pod stays until it is removed."""
REMOVE_POD = Method("remove_pod", SandboxRequest, Nothing, deadline=60)
"""Remove a pod's namespaces, shm, cgroup and bundle. A pod that does not exist is success."""
UPDATE_POD = Method("update_pod", UpdatePodRequest, Nothing, deadline=30)
"""Set a pod's limits. Does nothing if the pod's cgroup belongs to the caller."""
