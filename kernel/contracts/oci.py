"""Values that more than one contract contains, most of them defined by the OCI image specification. Pure."""

from __future__ import annotations

from typing import Literal

from kernel.contracts.definition import Message
from kernel.ids import DiffId, Digest

MASKED_PATHS = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware",
)  # fmt: skip
"""Paths that are hidden in a container whose request names none. The kubelet sends the same ones for the default
`procMount`."""
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""Paths that are read-only in a container whose request names none."""


class Descriptor(Message, frozen=True, kw_only=True):
    """A blob (image-spec, descriptor.md)."""

    media_type: str
    digest: Digest
    size: int
    """Bytes."""


class ImageConfig(Message, frozen=True, kw_only=True):
    """The part of an image's configuration that a container uses (image-spec, config.md, `config`); empty if the image
    sets nothing."""

    user: str = ""
    """`user`, `uid`, or either with `:group` or `:gid`."""
    env: tuple[str, ...] = ()
    """Environment variables, each as `NAME=VALUE`."""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    """Paths in the container."""
    stop_signal: str = ""
    """The signal's name or number: `SIGTERM`, `15`."""
    labels: dict[str, str] = {}


class Layer(Message, frozen=True, kw_only=True):
    """A layer of an image (image-spec, layer.md)."""

    blob: Descriptor
    """The layer as it comes from the registry, compressed or not."""
    diff_id: DiffId
    """Digest of the uncompressed tar that the blob must contain."""


class Signature(Message, frozen=True, kw_only=True):
    """A signature of an image as it was found: neither its content nor its signer has been verified."""

    kind: Literal["simple", "sigstore"]
    """simple: simple signing (containers-signature(5)); sigstore: a signature of cosign."""
    payload: bytes
    """simple: the whole OpenPGP message; sigstore: the document that was signed."""
    signature: bytes = b""
    """sigstore: the signature of that document; empty for simple."""


class Auth(Message, frozen=True, kw_only=True):
    """Credentials of one pull (CRI AuthConfig, normalised); a field that is not set is empty. They are never logged."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    """An OAuth2 refresh token."""
    registry_token: str = ""
    """A bearer token, sent as it is."""

    def __repr__(self) -> str:
        return "Auth(...)"


class IdRange(Message, frozen=True, kw_only=True):
    """A range of users or groups of a user namespace (CRI IDMapping)."""

    container_id: int
    """The first id inside the namespace."""
    host_id: int
    """The id on the host that corresponds to the first one."""
    length: int
    """The number of consecutive ids."""


class IdMap(Message, frozen=True, kw_only=True):
    """The users and groups of a user namespace: one range each, checked."""

    uids: IdRange
    gids: IdRange

    @property
    def root(self) -> tuple[int, int]:
        """The user and group on the host that are root inside the namespace."""
        return self.uids.host_id - self.uids.container_id, self.gids.host_id - self.gids.container_id
