"""Containers of the runtime worker: from their creation to their removal, with limits and checkpoints. Pure."""

from __future__ import annotations

import enum
from typing import Literal

import msgspec

from kernel.contracts.definition import Message, Method, Nothing
from kernel.contracts.oci import IdMap, ImageConfig
from kernel.contracts.runtime.pods import NamespaceMode, Resources, SelinuxOptions
from kernel.ids import ContainerId, SandboxId


class Propagation(enum.Enum):
    """The visibility of later mounts across a mount (CRI MountPropagation)."""

    PRIVATE = "private"
    """No later mount is visible on the other side."""
    HOST_TO_CONTAINER = "host_to_container"
    """Mounts that the host makes later appear in the container."""
    BIDIRECTIONAL = "bidirectional"
    """Mounts that either side makes later appear on the other."""


class Profile(Message, frozen=True, kw_only=True):
    """A seccomp or AppArmor profile (CRI SecurityProfile)."""

    kind: Literal["default", "unconfined", "localhost"]
    ref: str = ""
    """Path of a file (seccomp) or name of a loaded profile (AppArmor), for localhost."""
    field: str = ""
    """The CRI request's field from which it comes, for errors."""


class Mount(Message, frozen=True, kw_only=True):
    """A mount of a host path, or of an image that storage has mounted (CRI Mount)."""

    container_path: str
    """Absolute path in the container."""
    host_path: str = ""
    """Absolute path on the host; empty for an image."""
    image_volume: int | None = None
    """The number of the image volume (`Paths.image_volume`); None for a host path."""
    image_sub_path: str = ""
    """A relative path in the image, resolved inside it; the whole image if empty."""
    options: tuple[str, ...] = ()
    """CRI mount_options."""
    readonly: bool = False
    recursive_read_only: bool = False
    """Whether mounts below it are read-only too."""
    propagation: Propagation = Propagation.PRIVATE
    selinux_relabel: bool = False
    """Whether its files get the container's SELinux label."""
    id_map: IdMap | None = None
    """The map of the owners of its files (CRI uidMappings and gidMappings): a file that belongs to a `container_id`
    belongs to the `host_id` on the host."""


class Device(Message, frozen=True, kw_only=True):
    """A device of the host (CRI Device)."""

    container_path: str
    host_path: str
    permissions: str
    """Letters of `rwm`: read, write, mknod."""


class Security(Message, frozen=True, kw_only=True):
    """A container's privileges (the fields of CRI LinuxContainerSecurityContext that crisp serves)."""

    privileged: bool = False
    add_capabilities: tuple[str, ...] = ()
    """Names with or without `CAP_`, or `ALL`, in this field and the next."""
    drop_capabilities: tuple[str, ...] = ()
    run_as_user: int | None = None
    """User id; None if `run_as_username` or the image names the user."""
    run_as_group: int | None = None
    """Group id. If None, the image's group, or else the user's group."""
    run_as_username: str = ""
    """A name in the image's passwd; replaces `run_as_user` if not empty."""
    supplemental_groups: tuple[int, ...] = ()
    supplemental_groups_policy: Literal["merge", "strict"] = "merge"
    """merge: the groups of the user in the image are added; strict: they are not."""
    readonly_rootfs: bool = False
    no_new_privs: bool = False
    masked_paths: tuple[str, ...] | None = None
    """Paths that are hidden. If None, `kernel.contracts.oci.MASKED_PATHS`."""
    readonly_paths: tuple[str, ...] | None = None
    """Paths that are read-only. If None, `kernel.contracts.oci.READONLY_PATHS`."""
    seccomp: Profile | None = None
    """The seccomp profile. If None, the profile that the configuration gives to containers which name none."""
    apparmor: Profile | None = None
    """The AppArmor profile. If None, the default profile."""
    selinux: SelinuxOptions | None = None
    """SELinux options. If None, the pod's."""
    pid: NamespaceMode = NamespaceMode.CONTAINER
    target: ContainerId | None = None
    """The container whose PID namespace is joined if `pid` is TARGET."""


class CreateRequest(Message, frozen=True, kw_only=True):
    """A container to create (CRI ContainerConfig); its root file system is mounted already."""

    container_id: ContainerId = msgspec.field(name="container")
    sandbox_id: SandboxId = msgspec.field(name="sandbox")
    name: str
    """The container's name; together with `attempt` this is CRI ContainerMetadata."""
    attempt: int
    image: ImageConfig
    image_name: str
    """The image's name in the request."""
    image_ref: str
    """The text by which the kubelet compares images: a repo digest, or the image's id."""
    command: tuple[str, ...] = ()
    """A command that replaces the image's entrypoint, if not empty."""
    args: tuple[str, ...] = ()
    """Arguments that replace the image's cmd, if this field or `command` is not empty."""
    working_dir: str = ""
    """The working directory; the image's if empty."""
    envs: tuple[tuple[str, str], ...] = ()
    """Names and values, in addition to the image's."""
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    cdi_devices: tuple[str, ...] = ()
    """Qualified names (CDI, SPEC.md): `vendor.com/class=name`."""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    log_path: str = ""
    """Path of the log relative to the pod's log directory; empty for no log."""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    stop_signal: str = ""
    """The signal's name, such as `SIGTERM`. If empty, the image's signal, and SIGTERM if that is empty too."""
    security: Security = Security()
    resources: Resources = Resources()
    passwd: bytes = b""
    """The content of the image's /etc/passwd."""
    group: bytes = b""
    """The content of the image's /etc/group."""
    restores: bool = False
    """Whether its start restores processes from `Paths.checkpoint`; until then it has none."""
    restored_mounts: tuple[str, ...] = ()
    """Paths at which those processes had bind mounts: the container must have all of them."""


class Created(Message, frozen=True, kw_only=True):
    """A container whose process waits to be started."""

    pid: int
    """Its first process, in the host's PID namespace; 0 if it has none yet, because it restores a checkpoint."""
    uid: int
    """User of that process, inside the container. Together with the next two fields this is CRI LinuxContainerUser."""
    gid: int
    supplemental_groups: tuple[int, ...]
    stop_signal: str
    """Name of the signal that StopContainer sends: `SIGTERM`."""


class ContainerRequest(Message, frozen=True, kw_only=True):
    """A container by id."""

    container_id: ContainerId


class Started(Message, frozen=True, kw_only=True):
    """A container whose process runs."""

    started_at: int
    """Nanoseconds since 1970."""
    pid: int = 0
    """The first process of a restored container, whose id is known only after the restore; 0 for any other
    container."""


class StopRequest(Message, frozen=True, kw_only=True):
    """A container to stop (CRI StopContainerRequest)."""

    container_id: ContainerId
    timeout: int
    """Seconds between the stop signal and SIGKILL to all of the container's processes."""


class UpdateRequest(Message, frozen=True, kw_only=True):
    """New limits of a container (CRI UpdateContainerResources)."""

    container_id: ContainerId
    resources: Resources
    """Limits that are not set stay as they are."""


class Updated(Message, frozen=True, kw_only=True):
    """The limits that are in force now."""

    resources: Resources
    """All limits."""


class DumpRequest(Message, frozen=True, kw_only=True):
    """A running container to checkpoint."""

    container_id: ContainerId
    location: str
    """Absolute path of the archive that SEAL will write."""


class SealRequest(Message, frozen=True, kw_only=True):
    """The archive of a dumped container, and the container's description in it."""

    container_id: ContainerId
    location: str
    """Absolute path of the archive."""
    name: str
    """The container's name."""
    image_id: str
    image_name: str
    """The image's name in the container's request."""
    image_tag: str = ""
    """A tag of the image; empty if it has none."""
    created_at: int = 0
    """When the container was created, in nanoseconds since 1970."""
    restored: bool = False
    """Whether the container was restored from a checkpoint itself."""


class Inspected(Message, frozen=True, kw_only=True):
    """Details of a container, for people."""

    pid: int
    """Its first process, in the host's PID namespace; 0 if there is none."""
    runtime_spec: str
    """The OCI spec that it was created with, as JSON."""


class LabelRequest(Message, frozen=True, kw_only=True):
    """The properties of a container that decide the SELinux label of its files."""

    sandbox_id: SandboxId
    selinux: SelinuxOptions | None
    """The container's options. If None, the pod's."""
    privileged: bool
    """Whether the container is privileged."""


class Label(Message, frozen=True, kw_only=True):
    """The SELinux label of a container's files."""

    label: str
    """An SELinux context; empty for none."""


CREATE = Method("create", CreateRequest, Created, deadline=240)
"""Create a container, up to the point at which its process waits to be started. A container that is created already is
success. After an error nothing is left."""
START = Method("start", ContainerRequest, Started, deadline=60)
"""Start a container. A container that is started already is success: exactly one process is ever started."""
STOP = Method("stop", StopRequest, Nothing, deadline=300)
"""Stop a container and return once it has exited. A container that has exited or does not exist is success. A later
call with a shorter timeout shortens the wait of the one under way."""
REMOVE = Method("remove", ContainerRequest, Nothing, deadline=60)
"""Kill a container's processes and delete all of it but the root file system. A container that does not exist is
success."""
REOPEN_LOG = Method("reopen_log", ContainerRequest, Nothing, deadline=10)
"""Open a container's log file again, after it was rotated."""
UPDATE = Method("update", UpdateRequest, Updated, deadline=30)
"""Set the limits of a created or running container: all of them or none. FailedPrecondition if the memory limit is
below the memory in use."""
DUMP = Method("dump", DumpRequest, Nothing, deadline=600)
"""Freeze a container and dump its processes with CRIU. It stays frozen until SEAL, THAW or the deadline.
FailedPrecondition if the configuration, CRIU or the container do not allow it."""
SEAL = Method("seal", SealRequest, Nothing, deadline=600)
"""Thaw a dumped container and write its archive, with the files that storage has added. Unavailable if the dump was cut
off, by this worker's death for instance: a new one is needed."""
THAW = Method("thaw", ContainerRequest, Nothing, deadline=600)
"""Thaw a dumped container and delete the dump. If there is no dump or no container, this is success."""
INSPECT = Method("inspect", ContainerRequest, Inspected, deadline=5)
"""Return details of a container."""
MOUNT_LABEL = Method("mount_label", LabelRequest, Label, deadline=10)
"""Return the SELinux label of a container's files. Within a pod it stays the same."""
