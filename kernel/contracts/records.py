"""What is remembered: sandboxes, containers, images and intents, as the state on disk and the front's replica
hold them. Pure. Times are nanoseconds since 1970."""

from __future__ import annotations

import enum

from kernel.contracts.contract import Message
from kernel.contracts.oci import ImageConfig, Signature
from kernel.ids import ContainerId, DiffId, Digest, ImageId, SandboxId


class SandboxState(enum.Enum):
    """READY and NOT_READY are the CRI's; CREATING is not listed; a removed sandbox has no record."""

    CREATING = "creating"
    READY = "ready"
    NOT_READY = "not_ready"


class ContainerState(enum.Enum):
    """The CRI's states, and CREATING, which is not listed."""

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


class Sandbox(Message, frozen=True, kw_only=True):
    """A pod sandbox. `config` is the CRI PodSandboxConfig as it came, serialised: the truth for status and repeats."""

    id: SandboxId
    name: str
    namespace: str
    uid: str
    attempt: int
    state: SandboxState
    created_at: int
    handler: str
    """As the request named it; empty for the default."""
    config: bytes
    labels: dict[str, str] = {}
    ips: tuple[str, ...] = ()
    host_network: bool = False
    network_up: bool = False
    """An ADD may have happened and its DEL has not."""
    cgroup: str = ""
    boot_id: str = ""
    """The boot that it was made in; another one means that nothing of it lives."""


class Container(Message, frozen=True, kw_only=True):
    """A container. `config` is the CRI ContainerConfig as it came, serialised."""

    id: ContainerId
    sandbox: SandboxId
    name: str
    attempt: int
    state: ContainerState
    created_at: int
    config: bytes
    labels: dict[str, str] = {}
    image_id: ImageId
    image_ref: str
    """What the kubelet compares images by: a repo digest, or the image's id."""
    image_name: str
    """As the user asked for it."""
    volume_images: tuple[ImageId, ...] = ()
    """The images of its image volumes, in the order of its mounts."""
    log_path: str = ""
    """Absolute; empty for no log."""
    restored_from: str = ""
    """The archive, or the id of the image, of the checkpoint that its start restores; empty for none."""
    pid: int = 0
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    uid: int = 0
    gid: int = 0
    supplemental_groups: tuple[int, ...] = ()
    stop_signal: str = ""
    boot_id: str = ""


class ImageLayer(Message, frozen=True, kw_only=True):
    """A layer that an image is made of, unpacked."""

    diff_id: DiffId
    bytes: int


class Image(Message, frozen=True, kw_only=True):
    """An image whose layers are all unpacked."""

    id: ImageId
    tags: tuple[str, ...] = ()
    """Normalised references: `docker.io/library/busybox:latest`."""
    digests: tuple[str, ...] = ()
    """Repo digests: `docker.io/library/busybox@sha256:…`."""
    layers: tuple[ImageLayer, ...]
    size: int
    config: ImageConfig
    manifest_digests: tuple[Digest, ...] = ()
    blobs: tuple[Digest, ...] = ()
    """What of it lies in the blob folder: its configuration and manifests, and the compressed layers that are kept."""
    checkpoint_of: str = ""
    """The container that this image is a checkpoint of, as its manifest says; empty for an ordinary image."""
    pulled_at: int = 0
    signatures: tuple[Signature, ...] = ()
    """As they were found when it was pulled, for the policy that holds when a container is made of it."""


class IntentKind(enum.Enum):
    """A flow that leaves something on the host. After a crash each is run again from its first step."""

    RUN_SANDBOX = "run_sandbox"
    STOP_SANDBOX = "stop_sandbox"
    REMOVE_SANDBOX = "remove_sandbox"
    CREATE_CONTAINER = "create_container"
    REMOVE_CONTAINER = "remove_container"
    PULL_IMAGE = "pull_image"
    REMOVE_IMAGE = "remove_image"


class Intent(Message, frozen=True, kw_only=True):
    """Written before the first step, deleted in the transaction that records the outcome."""

    id: str
    """The id of the sandbox, container or image it is about: one flow at a time for each."""
    kind: IntentKind
    begun_at: int
    layers: tuple[DiffId, ...] = ()
    """For PULL_IMAGE: layers that may be on disk and belong to no image yet."""


class Exit(Message, frozen=True, kw_only=True):
    """A container's end as the supervisor heard of it from the runtime, kept until the container is removed."""

    container: ContainerId
    exit_code: int
    finished_at: int
    oom_killed: bool


GONE_SECONDS = 60
"""How long it is remembered what was removed: longer than a kubelet takes to come back."""


class Gone(Message, frozen=True, kw_only=True):
    """A sandbox or container that was removed, as its record last was: for events that nobody may have heard."""

    at: int
    sandbox: Sandbox | None = None
    container: Container | None = None
