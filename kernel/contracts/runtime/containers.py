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
    """Which mounts made later are seen on the other side (CRI MountPropagation)."""

    PRIVATE = "private"
    """None."""
    HOST_TO_CONTAINER = "host_to_container"
    """Those of the host, in the container."""
    BIDIRECTIONAL = "bidirectional"
    """Those of either, in the other."""


class Profile(Message, frozen=True, kw_only=True):
    """A seccomp or AppArmor profile (CRI SecurityProfile)."""

    kind: Literal["default", "unconfined", "localhost"]
    ref: str = ""
    """For localhost: the path of a file (seccomp) or the name of a loaded profile (AppArmor)."""
    field: str = ""
    """The field of the CRI request that it comes from, for errors."""


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
    """CRI uidMappings and gidMappings: files in it that belong to a `container_id` belong to the `host_id` on the
    host."""


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
    """Names with or without `CAP_`, or `ALL`; as the next one."""
    drop_capabilities: tuple[str, ...] = ()
    run_as_user: int | None = None
    """None if `run_as_username` or the image names the user."""
    run_as_group: int | None = None
    """None: the image's group, or else that of the user."""
    run_as_username: str = ""
    """A name in the image's passwd; in place of `run_as_user` if not empty."""
    supplemental_groups: tuple[int, ...] = ()
    supplemental_groups_policy: Literal["merge", "strict"] = "merge"
    """merge: the user's groups of the image are added; strict: they are not."""
    readonly_rootfs: bool = False
    no_new_privs: bool = False
    masked_paths: tuple[str, ...] | None = None
    """None: the default ones (`kernel.contracts.oci.MASKED_PATHS`)."""
    readonly_paths: tuple[str, ...] | None = None
    """None: the default ones (`kernel.contracts.oci.READONLY_PATHS`)."""
    seccomp: Profile | None = None
    """None: the one that the configuration gives to containers which name none."""
    apparmor: Profile | None = None
    """None: the default one."""
    selinux: SelinuxOptions | None = None
    """None: the pod's."""
    pid: NamespaceMode = NamespaceMode.CONTAINER
    target: ContainerId | None = None
    """The container whose PID namespace is joined if `pid` is TARGET."""


class CreateRequest(Message, frozen=True, kw_only=True):
    """A container to create (CRI ContainerConfig); its root file system is mounted already."""

    container_id: ContainerId = msgspec.field(name="container")
    sandbox_id: SandboxId = msgspec.field(name="sandbox")
    name: str
    """With `attempt`, CRI ContainerMetadata."""
    attempt: int
    image: ImageConfig
    image_name: str
    """The image's name in the request."""
    image_ref: str
    """What the kubelet compares images by: a repo digest, or the image's id."""
    command: tuple[str, ...] = ()
    """In place of the image's entrypoint, if not empty."""
    args: tuple[str, ...] = ()
    """In place of the image's cmd, if this or `command` is not empty."""
    working_dir: str = ""
    """The image's if empty."""
    envs: tuple[tuple[str, str], ...] = ()
    """Names and values, in addition to the image's."""
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    cdi_devices: tuple[str, ...] = ()
    """Qualified names (CDI, SPEC.md): `vendor.com/class=name`."""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    log_path: str = ""
    """Relative to the pod's log directory; empty for no log."""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    stop_signal: str = ""
    """By name: `SIGTERM`. If empty the image's, and SIGTERM if that is empty too."""
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
    """User of that process, inside the container; with the next two, CRI LinuxContainerUser."""
    gid: int
    supplemental_groups: tuple[int, ...]
    stop_signal: str
    """The signal that StopContainer sends: `SIGTERM`."""


class ContainerRequest(Message, frozen=True, kw_only=True):
    """A container by id."""

    container_id: ContainerId


class Started(Message, frozen=True, kw_only=True):
    """A container whose process runs."""

    started_at: int
    """Nanoseconds since 1970."""
    pid: int = 0
    """The first process of a container that was restored, which is known only now; 0 for any other container."""


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
    """All of them."""


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
    """The container's options; None: the pod's."""
    privileged: bool
    """Whether the container is privileged."""


class Label(Message, frozen=True, kw_only=True):
    """The SELinux label of a container's files."""

    label: str
    """A context; empty for none."""


CREATE = Method("create", CreateRequest, Created, deadline=240)
"""Create a container, up to the point where its process waits to be started. One that is created already is success.
After an error nothing is left."""
START = Method("start", ContainerRequest, Started, deadline=60)
"""Start a container. One that is started already is success: exactly one process is ever started."""
STOP = Method("stop", StopRequest, Nothing, deadline=300)
"""Stop a container and return once it has exited. One that has exited or is gone already is success. A later call with
a shorter timeout shortens the wait of the one under way."""
REMOVE = Method("remove", ContainerRequest, Nothing, deadline=60)
"""Kill a container's processes and delete all of it but the root file system. One that is gone already is success."""
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
"""Thaw a dumped container and delete the dump. No dump, and a container that is gone already, are success."""
INSPECT = Method("inspect", ContainerRequest, Inspected, deadline=5)
"""Return details of a container."""
MOUNT_LABEL = Method("mount_label", LabelRequest, Label, deadline=10)
"""Return the SELinux label of a container's files. Within a pod it stays the same."""
