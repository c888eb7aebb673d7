"""Values of the OCI image specification that more than one contract carries. Pure."""

from __future__ import annotations

from typing import Literal

from kernel.contracts.contract import Message
from kernel.ids import DiffId, Digest

MASKED_PATHS = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware",
)  # fmt: skip
"""What a container that nobody says anything of does not see; the kubelet sends the same for the usual `procMount`."""
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class Descriptor(Message, frozen=True, kw_only=True):
    """A blob by digest (image-spec, descriptor.md)."""

    media_type: str
    digest: Digest
    size: int


class ImageConfig(Message, frozen=True, kw_only=True):
    """What a container takes from its image (image-spec, config.md, `config`)."""

    user: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    labels: dict[str, str] = {}


class Layer(Message, frozen=True, kw_only=True):
    """A layer of an image: the blob in the registry and the uncompressed tar that it must give."""

    blob: Descriptor
    diff_id: DiffId


class Signature(Message, frozen=True, kw_only=True):
    """A signature of an image as it was found: what it says and whose it is, nobody has checked yet."""

    kind: Literal["simple", "sigstore"]
    """Simple signing (containers-signature(5)), or cosign's."""
    payload: bytes
    """simple: the whole OpenPGP message; sigstore: the document that was signed."""
    signature: bytes = b""
    """sigstore: the signature of that document."""


class Auth(Message, frozen=True, kw_only=True):
    """Credentials of one pull (CRI AuthConfig, normalised). Never logged."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    """An OAuth2 refresh token."""
    registry_token: str = ""
    """A bearer token to send as it is."""

    def __repr__(self) -> str:
        return "Auth(...)"


class IdRange(Message, frozen=True, kw_only=True):
    """CRI IDMapping: `length` ids from `container_id` are those from `host_id` on the host."""

    container_id: int
    host_id: int
    length: int


class IdMap(Message, frozen=True, kw_only=True):
    """The users and groups of a user namespace, one range each, checked."""

    uids: IdRange
    gids: IdRange

    @property
    def root(self) -> tuple[int, int]:
        """User and group of the namespace's root as the host sees them."""
        return self.uids.host_id - self.uids.container_id, self.gids.host_id - self.gids.container_id
