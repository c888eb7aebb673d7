"""Records of sandboxes, containers, images and intents, as the state on disk and the front's replica hold them. Pure.

Times are nanoseconds since 1970. The records are on disk as JSON: a new field needs a default, and a field that is
renamed keeps its stored name.
"""

from __future__ import annotations

import enum

import msgspec

from kernel.contracts.definition import Message
from kernel.contracts.oci import ImageConfig, Signature
from kernel.ids import ContainerId, DiffId, Digest, ImageId, SandboxId


class SandboxState(enum.Enum):
    """The state of a pod sandbox: READY and NOT_READY are the CRI's.

    A sandbox that is CREATING is in no list, and a removed one has no record.
    """

    CREATING = "creating"
    READY = "ready"
    NOT_READY = "not_ready"


class ContainerState(enum.Enum):
    """The state of a container: the CRI's states, and CREATING, in which it is in no list."""

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"

    @property
    def has_process(self) -> bool:
        """Whether a container in this state certainly has a process, which waits to be started or runs."""
        return self in (ContainerState.CREATED, ContainerState.RUNNING)

    @property
    def may_have_process(self) -> bool:
        """Whether a container in this state may have a process, which its end must kill."""
        return self.has_process or self is ContainerState.UNKNOWN


class Sandbox(Message, frozen=True, kw_only=True):
    """A pod sandbox."""

    id: SandboxId
    name: str
    """The pod's name. Together with the next three fields this is CRI PodSandboxMetadata: a repeated request has the
    same."""
    namespace: str
    uid: str
    attempt: int
    state: SandboxState
    created_at: int
    handler: str
    """Runtime handler, as the request named it; empty for the default."""
    config: bytes
    """The CRI PodSandboxConfig of the request, serialised: status and repeats are answered from it."""
    labels: dict[str, str] = {}
    ips: tuple[str, ...] = ()
    """The pod's addresses, the primary one first."""
    host_network: bool = False
    """Whether it has the host's network namespace."""
    network_up: bool = False
    """Whether ADD may have been run, and DEL has not been."""
    cgroup: str = ""
    """The pod's cgroup; empty until it is made."""
    boot_id: str = ""
    """The boot in which it was made: in any other boot no process, mount or namespace of it is left."""


class Container(Message, frozen=True, kw_only=True):
    """A container."""

    id: ContainerId
    sandbox_id: SandboxId = msgspec.field(name="sandbox")
    """Id of its pod sandbox."""
    name: str
    """The container's name. Together with `attempt` this is CRI ContainerMetadata: a repeated request has the same."""
    attempt: int
    state: ContainerState
    created_at: int
    config: bytes
    """The CRI ContainerConfig of the request, serialised."""
    labels: dict[str, str] = {}
    image_id: ImageId
    image_ref: str
    """The text by which the kubelet compares images: a repo digest, or the image's id."""
    image_name: str
    """The image's name in the request."""
    volume_images: tuple[ImageId, ...] = ()
    """The images of its image volumes, in the order of its mounts."""
    log_path: str = ""
    """Absolute path of the log; empty for no log."""
    restored_from: str = ""
    """The checkpoint that its start restores: the path of an archive, or the id of an image; empty for none."""
    pid: int = 0
    """Its first process in the host's PID namespace; 0 if there is none."""
    started_at: int = 0
    """When it was started; 0 until then."""
    finished_at: int = 0
    """When it ended; 0 until then."""
    exit_code: int = 0
    """0 to 255: 128 plus the signal's number if a signal ended it, 255 if its exit code is unknown."""
    reason: str = ""
    """The reason of its end, in CamelCase (CRI ContainerStatus)."""
    message: str = ""
    """The reason of its end, for people."""
    uid: int = 0
    """User of its first process, inside the container. Together with the next two fields this is CRI
    LinuxContainerUser."""
    gid: int = 0
    supplemental_groups: tuple[int, ...] = ()
    stop_signal: str = ""
    """Name of the signal that StopContainer sends: `SIGTERM`."""
    boot_id: str = ""
    """The boot in which it was made."""


class ImageLayer(Message, frozen=True, kw_only=True):
    """An unpacked layer of an image."""

    diff_id: DiffId
    bytes: int
    """Its size on disk."""


class Image(Message, frozen=True, kw_only=True):
    """An image whose layers are all unpacked."""

    id: ImageId
    tags: tuple[str, ...] = ()
    """Normalised references: `docker.io/library/busybox:latest`."""
    digests: tuple[str, ...] = ()
    """Repo digests: `docker.io/library/busybox@sha256:…`."""
    layers: tuple[ImageLayer, ...]
    """The layers, lowest first, each once."""
    size: int
    """Bytes."""
    config: ImageConfig
    manifest_digests: tuple[Digest, ...] = ()
    """Digests of the manifests that it was pulled or loaded by."""
    blobs: tuple[Digest, ...] = ()
    """Its blobs in the blob folder: its configuration and manifests, and the compressed layers that are kept."""
    checkpoint_of: str = ""
    """Name of the container that this image is a checkpoint of, from its manifest; empty for an ordinary image."""
    pulled_at: int = 0
    signatures: tuple[Signature, ...] = ()
    """The signatures that were found when it was pulled, for the policy in force when a container is made from it."""


class IntentKind(enum.Enum):
    """The flows that leave something on the host. After a crash each is run again from its first step."""

    RUN_SANDBOX = "run_sandbox"
    STOP_SANDBOX = "stop_sandbox"
    REMOVE_SANDBOX = "remove_sandbox"
    CREATE_CONTAINER = "create_container"
    REMOVE_CONTAINER = "remove_container"
    PULL_IMAGE = "pull_image"
    REMOVE_IMAGE = "remove_image"


class Intent(Message, frozen=True, kw_only=True):
    """A flow that is under way: written before its first step, deleted in the transaction that records its outcome."""

    id: str
    """Id of the sandbox, container or image that it is about: there is one flow at a time for each."""
    kind: IntentKind
    begun_at: int
    layers: tuple[DiffId, ...] = ()
    """Layers that may be on disk and belong to no image yet, for PULL_IMAGE."""


class Exit(Message, frozen=True, kw_only=True):
    """A container's end, as the runtime worker reported it to the supervisor; kept until the container is removed."""

    container_id: ContainerId = msgspec.field(name="container")
    """Id of the container."""
    exit_code: int
    """0 to 255: 128 plus the signal's number if a signal ended it, 255 if its exit code is unknown."""
    finished_at: int
    oom_killed: bool
    """Whether the kernel killed a process of the container because memory was exhausted."""


GONE_SECONDS = 60
"""Seconds for which a removed record is kept: longer than a restart of the kubelet takes."""


class Gone(Message, frozen=True, kw_only=True):
    """A removed sandbox or container, for clients that may have missed the event of its removal. One of the two records
    is set."""

    at: int
    """When it was removed."""
    sandbox: Sandbox | None = None
    """The last record of a sandbox."""
    container: Container | None = None
    """The last record of a container."""
