"""The storage worker: layers, mounts and their sizes; it has no network.

It takes ids and derives every path itself, except that of an archive to restore from. It hashes what it unpacks and
compares the digest with the diff id: a blob with another one is refused (Corrupt) and leaves nothing.

Errors: InvalidInput (an entry of the tar that would leave the layer, an unknown media type), NotFound (the blob or
layer is missing), Corrupt, ResourceExhausted (disk, inodes, limits), FailedPrecondition (a container still uses the
layer), Untrusted (the policy for signatures does not accept the image).
"""

from __future__ import annotations

import enum

from kernel.contracts.definition import Contract, Message, Method, Nothing
from kernel.contracts.oci import IdMap, Layer, Signature
from kernel.ids import ContainerId, DiffId, Digest, SandboxId


class Usage(Message, frozen=True, kw_only=True):
    """Space on disk."""

    bytes: int
    inodes: int
    """The number of files, folders, links and all others."""


class UnpackRequest(Message, frozen=True, kw_only=True):
    """A layer to unpack; its blob lies in the blob folder (`Paths.blob`)."""

    layer: Layer


class LayerRequest(Message, frozen=True, kw_only=True):
    """A layer by diff id."""

    diff_id: DiffId


class Layers(Message, frozen=True, kw_only=True):
    """The layers that are whole on disk."""

    layers: dict[DiffId, Usage]
    """Size by diff id."""


class LayerState(enum.Enum):
    """The outcome of a check of a layer."""

    WHOLE = "whole"
    """The tar that was made again from the layer's files has the layer's digest."""
    UNPROVEN = "unproven"
    """The files could only be counted: the layer was unpacked before crisp could make a tar again, or its tar names a
    file twice."""
    DAMAGED = "damaged"
    """The files do not match the layer's digest."""
    MISSING = "missing"
    """The layer is not on disk."""


class CheckRequest(Message, frozen=True, kw_only=True):
    """A layer to read as a whole."""

    diff_id: DiffId
    drop: bool = False
    """Whether the layer leaves LAYERS if it is damaged: then it must be fetched and unpacked again. Containers that use
    it go on with its files as they are."""


class Checked(Message, frozen=True, kw_only=True):
    """The outcome of a check."""

    state: LayerState
    why: str = ""
    """The reason for people; empty if the layer is whole."""


class ExportRequest(Message, frozen=True, kw_only=True):
    """A layer to write as a tar into the folder `Paths.outgoing`."""

    diff_id: DiffId
    name: str
    """The tar's file name there: 32 hex digits and `.tar`."""


class Exported(Message, frozen=True, kw_only=True):
    """A tar that has the layer's digest."""

    size: int
    """Bytes."""


class MountRequest(Message, frozen=True, kw_only=True):
    """A container's root file system: a writable layer over those of its image."""

    container_id: ContainerId
    layers: tuple[DiffId, ...]
    """The image's layers, lowest first."""
    volumes: tuple[tuple[DiffId, ...], ...] = ()
    """The layers of further images, each mounted read-only at `Paths.image_volume` by its number here."""
    label: str = ""
    """The SELinux context of all files in these mounts; each file keeps its own if empty."""
    user_namespace: SandboxId | None = None
    """The pod whose user namespace owns these mounts and maps the owners of the layers' files. If None, the host's user
    namespace owns them."""
    id_map: IdMap | None = None
    """The map of that namespace."""


class Mounted(Message, frozen=True, kw_only=True):
    """A root file system that is mounted at `Paths.rootfs`, and its two files that resolve users and groups.

    Each file is read inside the root, so that no link leads out; it is a regular file of at most 10 MiB, or empty here
    if it is missing.
    """

    passwd: bytes
    """The content of `/etc/passwd`."""
    group: bytes
    """The content of `/etc/group`."""


class ContainerRequest(Message, frozen=True, kw_only=True):
    """A container by id."""

    container_id: ContainerId


class Checkpoint(Message, frozen=True, kw_only=True):
    """The place of a container's checkpoint: an archive, or the layers of an image."""

    archive: str = ""
    """Path of a file on the host that only root can have written; the only path that storage is given."""
    layers: tuple[DiffId, ...] = ()
    """Layers of an image that is a checkpoint, lowest first."""


class Descriptions(Message, frozen=True, kw_only=True):
    """A checkpoint's own description of its container. It is not trusted: any user may have written it."""

    config: bytes
    """config.dump: JSON, as checkpointctl writes it."""
    spec: bytes
    """spec.dump: the OCI specification that the container ran with, as JSON."""


class RestoreRequest(Message, frozen=True, kw_only=True):
    """A checkpoint to unpack for a container whose root file system is mounted."""

    container_id: ContainerId
    checkpoint: Checkpoint


class FsInfo(Message, frozen=True, kw_only=True):
    """The file systems of images and of writable layers (CRI FilesystemUsage)."""

    images_mountpoint: str
    """Path of the folder with the images' layers."""
    images: Usage
    """Space taken by the images."""
    containers_mountpoint: str
    """Path of the folder with the containers' writable layers."""
    containers: Usage
    """Space taken by the writable layers."""
    driver: str = "overlay"
    """`overlay`, or `vfs` if no overlay can be mounted: then each container gets a copy of its image."""


class Inventory(Message, frozen=True, kw_only=True):
    """The things that storage holds on the host; ids may belong to no record."""

    layers: tuple[DiffId, ...]
    """Layers that are whole on disk."""
    containers: tuple[ContainerId, ...]
    """Containers with a folder, mounted or not."""
    mounted: tuple[ContainerId, ...]
    """Containers whose root file system is mounted."""
    partial: tuple[str, ...]
    """Names of temporary folders that an interrupted unpack has left."""


class JudgeRequest(Message, frozen=True, kw_only=True):
    """An image to judge by the node's policy for signatures (containers-policy.json(5))."""

    reference: str
    """The normalised name by which the image was requested; empty if it has none."""
    namespace: str
    """Kubernetes namespace of the pod, which may have a policy of its own; empty if there is no pod."""
    digests: tuple[Digest, ...]
    """Digests of its manifest, and of an index that lists it. The caller has computed them, and has verified that they
    lead to the layers."""
    signatures: tuple[Signature, ...]
    """All signatures that were found, unverified."""


UNPACK = Method("unpack", UnpackRequest, Usage, deadline=1800)
"""Unpack a layer and return its size; returns at once if it is there already. Calls for the same layer join."""
LAYERS = Method("layers", Nothing, Layers, deadline=10)
"""List the layers that are whole on disk."""
CHECK = Method("check", CheckRequest, Checked, deadline=1800)
"""Read all of a layer and compare it with its digest. Calls for the same layer join, and wait for an unpack of it."""
EXPORT = Method("export", ExportRequest, Exported, deadline=1800)
"""Make a layer's tar again, in place of any file of that name. FailedPrecondition if that is not possible for this
layer, Corrupt if its files have changed."""
SETTLE = Method("settle", Nothing, Nothing, deadline=86400)
"""Return once every layer that was unpacked shortly before the host went down is checked, and the damaged ones are out
of LAYERS. Returns at once if there are none."""
REMOVE_LAYER = Method("remove_layer", LayerRequest, Nothing, deadline=120)
"""Delete a layer that no container uses. A layer that does not exist is success."""
MOUNT = Method("mount", MountRequest, Mounted, deadline=30)
"""Mount a container's root file system and read its user and group files. A file system that is mounted already is
success, with the same reply."""
UNMOUNT = Method("unmount", ContainerRequest, Nothing, deadline=60)
"""Unmount a container's root file system and delete its writable layer. A container that does not exist is success."""
USAGE = Method("usage", ContainerRequest, Usage, deadline=30)
"""Return the size of a container's writable layer: the known one, or a new count if that is old."""
WRITE_DIFF = Method("write_diff", ContainerRequest, Nothing, deadline=1800)
"""Write what a frozen container has changed in its root to `Paths.checkpoint`: rootfs-diff.tar and deleted.files."""
DESCRIBE = Method("describe", Checkpoint, Descriptions, deadline=1800)
"""Read which container a checkpoint is of. NotFound if the archive does not exist; InvalidInput if it is not a
checkpoint, or has parts of more than one; PermissionDenied if others than root can write the file."""
RESTORE = Method("restore", RestoreRequest, Nothing, deadline=1800)
"""Put a checkpoint's files into `Paths.checkpoint`, and its changes into the container's root. A repeated call has the
same result."""
FS_INFO = Method("fs_info", Nothing, FsInfo, deadline=10)
"""Return the space that images and writable layers take, as last counted; an old count is renewed in the background."""
INVENTORY = Method("inventory", Nothing, Inventory, deadline=30)
"""List what storage holds on the host, for start-up and `crisp doctor`."""
SWEEP = Method("sweep", Nothing, Nothing, deadline=120)
"""Delete the temporary folders that INVENTORY lists as partial."""
JUDGE = Method("judge", JudgeRequest, Nothing, deadline=30)
"""Return if the policy accepts the image. Untrusted gives the reason if it does not, or if no policy can be read."""

CONTRACT = Contract(
    "storage", UNPACK, LAYERS, CHECK, EXPORT, SETTLE, REMOVE_LAYER, MOUNT, UNMOUNT, USAGE, WRITE_DIFF, DESCRIBE,
    RESTORE, FS_INFO, INVENTORY, SWEEP, JUDGE,
)  # fmt: skip
