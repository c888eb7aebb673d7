"""Containers of the runtime worker: from their creation to their removal, with limits and checkpoints. Pure."""

from __future__ import annotations

import enum
from typing import Literal

from kernel.contracts.contract import Message, Method, Nothing
from kernel.contracts.oci import IdMap, ImageConfig
from kernel.contracts.runtime.pods import NamespaceMode, Resources, SelinuxOptions
from kernel.ids import ContainerId, SandboxId


class Propagation(enum.Enum):
    """CRI MountPropagation."""

    PRIVATE = "private"
    HOST_TO_CONTAINER = "host_to_container"
    BIDIRECTIONAL = "bidirectional"


class Profile(Message, frozen=True, kw_only=True):
    """CRI SecurityProfile, for seccomp or AppArmor."""

    kind: Literal["default", "unconfined", "localhost"]
    ref: str = ""
    """Of localhost: a file (seccomp) or a loaded profile's name (AppArmor)."""
    field: str = ""
    """Where the request says it, for errors."""


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


class UpdateRequest(Message, frozen=True, kw_only=True):
    """New limits of a container; what is not set stays as it is."""

    container: ContainerId
    resources: Resources


class Updated(Message, frozen=True, kw_only=True):
    """All limits that hold now."""

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


CREATE = Method("create", CreateRequest, Created, deadline=240)
"""Created already is success. After an error nothing is left."""
START = Method("start", ContainerRequest, Started, deadline=60)
"""Started already is success; exactly one process is ever started."""
STOP = Method("stop", StopRequest, Nothing, deadline=300)
"""Back once the container has exited; exited or gone already is success. A later call with a shorter timeout
shortens the wait of the one under way."""
REMOVE = Method("remove", ContainerRequest, Nothing, deadline=60)
"""Kill what runs and delete all but the root file system; gone already is success."""
REOPEN_LOG = Method("reopen_log", ContainerRequest, Nothing, deadline=10)
UPDATE = Method("update", UpdateRequest, Updated, deadline=30)
"""Of a created or running container; all of it or nothing. FailedPrecondition for a memory limit below what is used."""
DUMP = Method("dump", DumpRequest, Nothing, deadline=600)
"""FailedPrecondition where configuration, CRIU or the container do not allow it. Afterwards the container is frozen,
until SEAL or THAW, or the deadline."""
SEAL = Method("seal", SealRequest, Nothing, deadline=600)
"""Thaw it and write the archive, with what storage has added. Unavailable where the dump was cut off, as by this
worker's death: a new one is needed."""
THAW = Method("thaw", ContainerRequest, Nothing, deadline=600)
"""Let it run on and drop what was dumped; nothing dumped, and gone already, is success."""
INSPECT = Method("inspect", ContainerRequest, Inspected, deadline=5)
MOUNT_LABEL = Method("mount_label", LabelRequest, Label, deadline=10)
"""A pod's label stays the same."""
