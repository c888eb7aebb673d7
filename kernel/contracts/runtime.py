"""The runtime worker: pods' namespaces and cgroups, OCI spec, conmon and the OCI runtime, exec, exits.

A pod's configuration is given once (MAKE_POD) and kept by the worker in its bundle; containers name their
sandbox. The root file system and network namespace lie where `Paths` says. Field names follow the CRI.
Errors: InvalidInput (naming the CRI field), NotFound (pod or container), FailedPrecondition (wrong state),
Internal (conmon or the OCI runtime failed; the message is theirs), DeadlineExceeded, ResourceExhausted.
"""

from __future__ import annotations

import enum
from typing import Literal

from kernel.contracts.contract import Contract, Message, Method, Nothing
from kernel.contracts.oci import Auth, IdMap, ImageConfig
from kernel.contracts.stats import Stats, StatsRequest
from kernel.ids import ContainerId, SandboxId, SessionId


class NamespaceMode(enum.Enum):
    """CRI NamespaceMode."""

    POD = "pod"
    CONTAINER = "container"
    NODE = "node"
    TARGET = "target"


class Propagation(enum.Enum):
    """CRI MountPropagation."""

    PRIVATE = "private"
    HOST_TO_CONTAINER = "host_to_container"
    BIDIRECTIONAL = "bidirectional"


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


class Profile(Message, frozen=True, kw_only=True):
    """CRI SecurityProfile, for seccomp or AppArmor."""

    kind: Literal["default", "unconfined", "localhost"]
    ref: str = ""
    """Of localhost: a file (seccomp) or a loaded profile's name (AppArmor)."""
    field: str = ""
    """Where the request says it, for errors."""


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


class Mount(Message, frozen=True, kw_only=True):
    """CRI Mount of a host path, or of an image that storage has mounted."""

    container_path: str
    host_path: str = ""
    """Empty for an image."""
    image_volume: int | None = None
    """The number of the image volume (`Paths.image_volume`)."""
    image_sub_path: str = ""
    """Of the image: a relative path, resolved inside it; all of it where empty."""
    options: tuple[str, ...] = ()
    """CRI mount_options."""
    readonly: bool = False
    recursive_read_only: bool = False
    propagation: Propagation = Propagation.PRIVATE
    selinux_relabel: bool = False
    id_map: IdMap | None = None
    """CRI uidMappings and gidMappings: whom files in it that belong to a `container_id` belong to on the host."""


class Device(Message, frozen=True, kw_only=True):
    """CRI Device; permissions are letters of `rwm`."""

    container_path: str
    host_path: str
    permissions: str


class Security(Message, frozen=True, kw_only=True):
    """CRI LinuxContainerSecurityContext as far as it is served."""

    privileged: bool = False
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_username: str = ""
    supplemental_groups: tuple[int, ...] = ()
    supplemental_groups_policy: Literal["merge", "strict"] = "merge"
    readonly_rootfs: bool = False
    no_new_privs: bool = False
    masked_paths: tuple[str, ...] | None = None
    """None: the default ones."""
    readonly_paths: tuple[str, ...] | None = None
    seccomp: Profile | None = None
    """None: what the configuration says of containers that name none."""
    apparmor: Profile | None = None
    """None: the default one."""
    selinux: SelinuxOptions | None = None
    """None: the pod's."""
    pid: NamespaceMode = NamespaceMode.CONTAINER
    target: ContainerId | None = None
    """Whose PID namespace to join where `pid` is TARGET."""


class CreateRequest(Message, frozen=True, kw_only=True):
    """A container to create; its root file system is mounted already."""

    container: ContainerId
    sandbox: SandboxId
    name: str
    attempt: int
    image: ImageConfig
    image_name: str
    image_ref: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    envs: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    cdi_devices: tuple[str, ...] = ()
    """By qualified name: `vendor.com/class=name`."""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    log_path: str = ""
    """Relative to the pod's log directory; empty for no log."""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    stop_signal: str = ""
    """As SIGTERM; the image's, then SIGTERM, where empty."""
    security: Security = Security()
    resources: Resources = Resources()
    passwd: bytes = b""
    """The image's /etc/passwd."""
    group: bytes = b""
    restores: bool = False
    """Whether its start restores processes from `Paths.checkpoint`: until then it has none."""
    restored_mounts: tuple[str, ...] = ()
    """Where those processes had bind mounts: it must have all of them."""


class Created(Message, frozen=True, kw_only=True):
    """A container whose process waits to be started."""

    pid: int
    """0 where it has none yet, as it restores."""
    uid: int
    gid: int
    supplemental_groups: tuple[int, ...]
    stop_signal: str


class ContainerRequest(Message, frozen=True, kw_only=True):
    """A container by id."""

    container: ContainerId


class Started(Message, frozen=True, kw_only=True):
    started_at: int
    """Nanoseconds since 1970."""
    pid: int = 0
    """Where it is known only now: of a container that was restored."""


class StopRequest(Message, frozen=True, kw_only=True):
    """Stop signal, then SIGKILL to all of the container's processes after `timeout` seconds."""

    container: ContainerId
    timeout: int


class ExecRequest(Message, frozen=True, kw_only=True):
    """A command in a running container."""

    container: ContainerId
    cmd: tuple[str, ...]
    timeout: int
    """Seconds, after which the process tree is killed; no limit but the caller's deadline where 0."""


class Executed(Message, frozen=True, kw_only=True):
    """Output, each stream cut at 16 MiB."""

    stdout: bytes
    stderr: bytes
    exit_code: int


class OpenExecRequest(Message, frozen=True, kw_only=True):
    """A command in a running container, its input and output to be handed to the stream process."""

    session: SessionId
    container: ContainerId
    cmd: tuple[str, ...]
    tty: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    """Those not wanted are /dev/null; a terminal is all three."""
    width: int = 0
    height: int = 0
    """Of the terminal, where it is known already; it can be set at any time later."""


class OpenAttachRequest(Message, frozen=True, kw_only=True):
    """A connection to a container's own input and output, to be handed to the stream process."""

    session: SessionId
    container: ContainerId


class SessionRequest(Message, frozen=True, kw_only=True):
    """A session by id."""

    session: SessionId


class ContainerFact(Message, frozen=True, kw_only=True):
    """What the host says of a container."""

    container: ContainerId
    sandbox: SandboxId
    state: Literal["created", "running", "exited", "unknown"]
    """unknown: no process and no exit code is left of it."""
    pid: int = 0
    started_at: int = 0
    finished_at: int = 0
    """Nanoseconds since 1970."""
    exit_code: int = 0
    oom_killed: bool = False
    frozen: bool = False
    """A checkpoint has frozen it, and its archive was not asked for yet."""
    monitor_lost: bool = False
    """It runs, and its conmon does not: nothing writes its log or takes an attach; its exit code is still seen."""


class PodFact(Message, frozen=True, kw_only=True):
    """What the host says of a pod."""

    sandbox: SandboxId
    ready: bool
    """Its namespaces are pinned, and its pause process lives where it has one."""


class Facts(Message, frozen=True, kw_only=True, tag="facts"):
    """Everything the worker holds: the first message of a watch. A container not named here is gone."""

    pods: tuple[PodFact, ...]
    containers: tuple[ContainerFact, ...]


class Changed(Message, frozen=True, kw_only=True, tag="changed"):
    """A container's process ended, or was seen in another state."""

    fact: ContainerFact


class PodChanged(Message, frozen=True, kw_only=True, tag="pod_changed"):
    """A pod's pause process ended."""

    fact: PodFact


class UpdateRequest(Message, frozen=True, kw_only=True):
    """New limits of a container; what is not set stays as it is."""

    container: ContainerId
    resources: Resources


class Updated(Message, frozen=True, kw_only=True):
    """All limits that hold now."""

    resources: Resources


class UpdatePodRequest(Message, frozen=True, kw_only=True):
    """New limits of a pod's containers together, and of what the pod takes beside them."""

    sandbox: SandboxId
    overhead: Resources
    resources: Resources


class DumpRequest(Message, frozen=True, kw_only=True):
    """A running container to checkpoint."""

    container: ContainerId
    location: str
    """Where the archive will be written: an absolute path."""


class SealRequest(Message, frozen=True, kw_only=True):
    """A dumped container's archive, and what it says the container is."""

    container: ContainerId
    location: str
    name: str
    image_id: str
    image_name: str
    """As the user asked for it."""
    image_tag: str = ""
    created_at: int = 0
    restored: bool = False


class Inspected(Message, frozen=True, kw_only=True):
    """For people: the OCI spec that was run, as JSON."""

    pid: int
    runtime_spec: str


class LabelRequest(Message, frozen=True, kw_only=True):
    """What decides the SELinux label of a container's files."""

    sandbox: SandboxId
    selinux: SelinuxOptions | None
    """The container's; None: the pod's."""
    privileged: bool


class Label(Message, frozen=True, kw_only=True):
    label: str
    """Empty for none."""


class HandlerFact(Message, frozen=True, kw_only=True):
    """A runtime handler that was found on the host."""

    name: str
    version: str
    recursive_read_only_mounts: bool = False
    user_namespaces: bool = False


class Platform(Message, frozen=True, kw_only=True):
    """The runtime as it is on this host."""

    cgroup_driver: Literal["cgroupfs", "systemd"]
    handlers: tuple[HandlerFact, ...]
    missing: tuple[str, ...] = ()
    """Programs that are configured and not there, each with the path looked at."""
    selinux: bool = False
    """Containers' files are labelled: MOUNT_LABEL says how."""


class Inventory(Message, frozen=True, kw_only=True):
    """What the runtime worker holds on the host; ids may belong to no record."""

    pods: tuple[SandboxId, ...]
    containers: tuple[ContainerId, ...]
    cgroups: tuple[str, ...]
    """Cgroups below the configured parent whose name bears none of those ids."""


class HelperRequest(Message, frozen=True, kw_only=True):
    """A credential helper of the configured folder, and the server that it is asked for."""

    helper: str
    server: str


class Helped(Message, frozen=True, kw_only=True):
    """What a credential helper has; empty where that is nothing."""

    auth: Auth

    def __repr__(self) -> str:
        return "Helped(...)"


MAKE_POD = Method("make_pod", PodRequest, PodMade, deadline=60)
"""Made already is success."""
STOP_POD = Method("stop_pod", SandboxRequest, Nothing, deadline=60)
"""Kill what is left in the pod, its pause process included; the pod stays until it is removed."""
REMOVE_POD = Method("remove_pod", SandboxRequest, Nothing, deadline=60)
"""Remove namespaces, shm, cgroup and bundle; gone already is success."""
CREATE = Method("create", CreateRequest, Created, deadline=240)
"""Created already is success. After an error nothing is left."""
START = Method("start", ContainerRequest, Started, deadline=60)
"""Started already is success; exactly one process is ever started."""
STOP = Method("stop", StopRequest, Nothing, deadline=300)
"""Back once the container has exited; exited or gone already is success. A later call with a shorter timeout
shortens the wait of the one under way."""
REMOVE = Method("remove", ContainerRequest, Nothing, deadline=60)
"""Kill what runs and delete all but the root file system; gone already is success."""
EXEC = Method("exec", ExecRequest, Executed, deadline=3600, repeat=False)
"""Not repeated: the command may have run."""
OPEN_EXEC = Method("open_exec", OpenExecRequest, Nothing, deadline=60, repeat=False)
"""Start the command and hand its descriptors over (roles stdin, stdout, stderr as asked, or terminal; and status).
Not repeated: the command may have run. FailedPrecondition where the container does not run, Internal with the OCI
runtime's words where the command cannot be started, Unavailable where the stream process does not take it."""
OPEN_ATTACH = Method("open_attach", OpenAttachRequest, Nothing, deadline=30)
"""Hand over a new connection to the container's attach socket (role attach, and control where it has a terminal)."""
CLOSE_SESSION = Method("close_session", SessionRequest, Nothing, deadline=30)
"""Kill what is left of the session's command; none of it left, or no such session, is success."""
REOPEN_LOG = Method("reopen_log", ContainerRequest, Nothing, deadline=10)
UPDATE = Method("update", UpdateRequest, Updated, deadline=30)
"""Of a created or running container; all of it or nothing. FailedPrecondition for a memory limit below what is used."""
UPDATE_POD = Method("update_pod", UpdatePodRequest, Nothing, deadline=30)
"""Nothing to do where the pod's cgroup belongs to the caller."""
DUMP = Method("dump", DumpRequest, Nothing, deadline=600)
"""FailedPrecondition where configuration, CRIU or the container do not allow it. Afterwards the container is frozen,
until SEAL or THAW, or the deadline."""
SEAL = Method("seal", SealRequest, Nothing, deadline=600)
"""Thaw it and write the archive, with what storage has added. Unavailable where the dump was cut off, as by this
worker's death: a new one is needed."""
THAW = Method("thaw", ContainerRequest, Nothing, deadline=600)
"""Let it run on and drop what was dumped; nothing dumped, and gone already, is success."""
INSPECT = Method("inspect", ContainerRequest, Inspected, deadline=5)
PLATFORM = Method("platform", Nothing, Platform, deadline=20)
MOUNT_LABEL = Method("mount_label", LabelRequest, Label, deadline=10)
"""A pod's label stays the same."""
WATCH = Method("watch", Nothing, Nothing, deadline=0, progress=Facts | Changed | PodChanged, watch=True)
"""Facts, then each change as it happens."""
INVENTORY = Method("inventory", Nothing, Inventory, deadline=30)
SWEEP = Method("sweep", Nothing, Nothing, deadline=30)
"""Remove the empty cgroups that INVENTORY lists without an owner."""
STATS = Method("stats", StatsRequest, Stats, deadline=10)
"""Read from the kernel at this moment, never from memory; calls with the same request join."""

ASK_HELPER = Method("ask_helper", HelperRequest, Helped, deadline=60)
"""Run a credential helper, as the image worker's user. FailedPrecondition where none may be run."""

CONTRACT = Contract(
    "runtime", MAKE_POD, STOP_POD, REMOVE_POD, CREATE, START, STOP, REMOVE, EXEC, OPEN_EXEC, OPEN_ATTACH,
    CLOSE_SESSION, REOPEN_LOG, UPDATE,
    UPDATE_POD, DUMP, SEAL, THAW, INSPECT, PLATFORM,
    MOUNT_LABEL, WATCH, INVENTORY, SWEEP, STATS, ASK_HELPER,
)  # fmt: skip
