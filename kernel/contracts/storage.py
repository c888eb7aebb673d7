"""The storage worker: layers, mounts and their sizes; no network.

It takes ids and derives every path itself, but that of an archive to restore from. It hashes what it unpacks against
the diff id: a blob that does not give it is refused (Corrupt) and leaves nothing. Errors: InvalidInput (an entry of the
tar that would leave the layer, an unknown media type), NotFound (blob or layer missing), Corrupt, ResourceExhausted
(disk, inodes, limits), FailedPrecondition (a layer that a container still uses), Untrusted (the policy for signatures
does not accept).
"""

from __future__ import annotations

import enum

from kernel.contracts.contract import Contract, Message, Method, Nothing
from kernel.contracts.oci import IdMap, Layer, Signature
from kernel.ids import ContainerId, DiffId, Digest, SandboxId


class Usage(Message, frozen=True, kw_only=True):
    """Space on disk."""

    bytes: int
    inodes: int


class UnpackRequest(Message, frozen=True, kw_only=True):
    """A layer whose blob lies in the blob folder (`Paths.blob`)."""

    layer: Layer


class LayerRequest(Message, frozen=True, kw_only=True):
    """A layer by diff id."""

    diff_id: DiffId


class Layers(Message, frozen=True, kw_only=True):
    """Every layer that is whole on disk, with its size."""

    layers: dict[DiffId, Usage]


class LayerState(enum.Enum):
    """What a check of a layer found."""

    WHOLE = "whole"
    """Its files, and all that its tar says of them, give its digest."""
    UNPROVEN = "unproven"
    """It was made before its tar could be made again, or its tar names a file twice: only counted."""
    DAMAGED = "damaged"
    MISSING = "missing"


class CheckRequest(Message, frozen=True, kw_only=True):
    """A layer to be read as a whole."""

    diff_id: DiffId
    drop: bool = False
    """Whether it goes out of LAYERS where it is damaged: then it is to be fetched and unpacked again. Containers that
    have it go on with its files as they are."""


class Checked(Message, frozen=True, kw_only=True):
    """What a check found."""

    state: LayerState
    why: str = ""


class ExportRequest(Message, frozen=True, kw_only=True):
    """A layer whose tar is wanted in the folder `Paths.outgoing`, under a name of 32 hex digits and `.tar`."""

    diff_id: DiffId
    name: str


class Exported(Message, frozen=True, kw_only=True):
    """A tar that has the layer's digest."""

    size: int


class MountRequest(Message, frozen=True, kw_only=True):
    """A container's root file system: a writable layer over the image's, lowest first."""

    container: ContainerId
    layers: tuple[DiffId, ...]
    volumes: tuple[tuple[DiffId, ...], ...] = ()
    """The layers of further images, each mounted read-only at `Paths.image_volume` by its number here."""
    label: str = ""
    """The SELinux context of all files in these mounts; their own where empty."""
    user_namespace: SandboxId | None = None
    """The pod whose user namespace owns these mounts: files of the layers belong to whom it maps their owners to."""
    id_map: IdMap | None = None
    """Of that namespace."""


class Mounted(Message, frozen=True, kw_only=True):
    """A root file system mounted at `Paths.rootfs`, and the two files of it that resolve users and groups.

    Each file is read inside the root (no link leads out), regular only, at most 10 MiB; empty where missing.
    """

    passwd: bytes
    group: bytes


class ContainerRequest(Message, frozen=True, kw_only=True):
    """A container's writable layer and mount."""

    container: ContainerId


class Checkpoint(Message, frozen=True, kw_only=True):
    """Where a checkpoint of a container lies: one of the two."""

    archive: str = ""
    """A file of the host's, which only root can have written. The one path that storage is given."""
    layers: tuple[DiffId, ...] = ()
    """Of an image that is one, lowest first."""


class Descriptions(Message, frozen=True, kw_only=True):
    """What a checkpoint says that it is of. Anybody may have written it."""

    config: bytes
    """config.dump: JSON, as checkpointctl has it."""
    spec: bytes
    """spec.dump: the OCI specification that ran."""


class RestoreRequest(Message, frozen=True, kw_only=True):
    """A checkpoint to take in for a container whose root file system is mounted."""

    container: ContainerId
    checkpoint: Checkpoint


class FsInfo(Message, frozen=True, kw_only=True):
    """The file systems of images and of writable layers (CRI FilesystemUsage)."""

    images_mountpoint: str
    images: Usage
    containers_mountpoint: str
    containers: Usage
    driver: str = "overlay"
    """How containers' roots are made; `vfs` are copies, where no overlay can be mounted."""


class Inventory(Message, frozen=True, kw_only=True):
    """What storage holds on the host, for start-up and `crisp doctor`."""

    layers: tuple[DiffId, ...]
    containers: tuple[ContainerId, ...]
    """Containers with a folder here, mounted or not."""
    mounted: tuple[ContainerId, ...]
    partial: tuple[str, ...]
    """Left-overs of unpacking: names of temporary folders with no unpack under way."""


class JudgeRequest(Message, frozen=True, kw_only=True):
    """An image before the node's policy for signatures."""

    reference: str
    """The name that it is asked for by, normalised; empty where it has none."""
    namespace: str
    """The pod's, for a policy of its own; empty where there is no pod."""
    digests: tuple[Digest, ...]
    """Of its manifest, and of an index that lists it: computed by the caller, who follows them to the layers."""
    signatures: tuple[Signature, ...]


UNPACK = Method("unpack", UnpackRequest, Usage, deadline=1800)
"""Unpack a layer once; at once where it is there already. Calls for the same layer join."""
LAYERS = Method("layers", Nothing, Layers, deadline=10)
CHECK = Method("check", CheckRequest, Checked, deadline=1800)
"""Calls for the same layer join, and wait for an unpack of it."""
EXPORT = Method("export", ExportRequest, Exported, deadline=1800)
"""Make a layer's tar again; a file of that name is written anew. FailedPrecondition where that cannot be, Corrupt where
its files are not what they were."""
SETTLE = Method("settle", Nothing, Nothing, deadline=86400)
"""Done once each layer is checked that was made just before the host went down, and those that are damaged are out of
LAYERS. At once where there is none."""
REMOVE_LAYER = Method("remove_layer", LayerRequest, Nothing, deadline=120)
"""Gone already is success."""
MOUNT = Method("mount", MountRequest, Mounted, deadline=30)
"""Mounted already is success, with the same answer."""
UNMOUNT = Method("unmount", ContainerRequest, Nothing, deadline=60)
"""Unmount and delete the writable layer; gone already is success."""
USAGE = Method("usage", ContainerRequest, Usage, deadline=30)
WRITE_DIFF = Method("write_diff", ContainerRequest, Nothing, deadline=1800)
"""What a frozen container changed, into `Paths.checkpoint`: rootfs-diff.tar and deleted.files."""
DESCRIBE = Method("describe", Checkpoint, Descriptions, deadline=1800)
"""NotFound for an archive that is not there; InvalidInput for what is no checkpoint or has more than one's parts;
PermissionDenied for a file that others than root can write."""
RESTORE = Method("restore", RestoreRequest, Nothing, deadline=1800)
"""The checkpoint's files into `Paths.checkpoint`, and what it changed into the container's root. Once more is once."""
FS_INFO = Method("fs_info", Nothing, FsInfo, deadline=10)
INVENTORY = Method("inventory", Nothing, Inventory, deadline=30)
SWEEP = Method("sweep", Nothing, Nothing, deadline=120)
"""Delete the partial left-overs that INVENTORY lists."""

JUDGE = Method("judge", JudgeRequest, Nothing, deadline=30)
"""Back where the policy accepts the image; Untrusted says why it does not, also where there is no policy that reads."""

CONTRACT = Contract(
    "storage", UNPACK, LAYERS, CHECK, EXPORT, SETTLE, REMOVE_LAYER, MOUNT, UNMOUNT, USAGE, WRITE_DIFF, DESCRIBE,
    RESTORE, FS_INFO, INVENTORY, SWEEP, JUDGE,
)  # fmt: skip
