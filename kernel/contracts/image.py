"""The image worker: references, registries and blobs, with no privilege.

What it says is never trusted: the front computes the configuration's digest itself, storage hashes what it
unpacks. Errors: InvalidInput (reference), NotFound (no such image at any endpoint), Unauthenticated,
PermissionDenied, Unavailable (registry away, stalled, truncated), Corrupt (a digest lied), ResourceExhausted,
FailedPrecondition (no manifest for the platform, blocked registry, media type not supported). Every error of a
registry names its host and the reason.
"""

from __future__ import annotations

from kernel.contracts.contract import Contract, Message, Method, Nothing
from kernel.contracts.oci import Auth, Descriptor, Signature
from kernel.ids import Digest


class ResolveRequest(Message, frozen=True, kw_only=True):
    """An image by reference, as the user wrote it."""

    reference: str
    """Of a registry: short names have been made whole."""
    auth: Auth | None = None
    namespace: str = ""
    """The Kubernetes namespace of the pod that it is pulled for; empty where there is none."""
    helped: dict[str, Auth] = {}
    """What credential helpers gave, by server."""


class Wanted(Message, frozen=True, kw_only=True):
    """What a pull wants of credential helpers: for each server those that may have it, to be asked in turn."""

    helpers: dict[str, tuple[str, ...]]


class Resolved(Message, frozen=True, kw_only=True):
    """A manifest chosen for the platform, fetched and verified."""

    name: str
    """The repository with its registry, normalised: `docker.io/library/busybox`."""
    tag: str
    """Empty where the reference was by digest alone."""
    digest: Digest
    """Digest of what the reference names: the index where it is one, else the manifest."""
    manifest_digest: Digest
    documents: tuple[bytes, ...]
    """The manifest as fetched, and before it the index that named it and the one that named that, where there are any:
    at most 4 MiB each."""
    config: bytes
    """The image configuration, at most 4 MiB, as fetched."""
    layers: tuple[Descriptor, ...]
    """Compressed layers, lowest first."""


class SignaturesRequest(Message, frozen=True, kw_only=True):
    """The signatures of a resolved image, from where registries.d says that they are."""

    reference: str
    digests: tuple[Digest, ...]
    """Of the manifest, and of the index that named it."""
    auth: Auth | None = None
    namespace: str = ""
    helped: dict[str, Auth] = {}


class Signatures(Message, frozen=True, kw_only=True):
    """All that were found, unchecked: at most 128, and 256 KiB together."""

    signatures: tuple[Signature, ...]


class FetchRequest(Message, frozen=True, kw_only=True):
    """One blob of a resolved image."""

    reference: str
    """As in ResolveRequest: mirrors may be for tags or for digests only."""
    blob: Descriptor
    auth: Auth | None = None
    namespace: str = ""
    helped: dict[str, Auth] = {}


class Progress(Message, frozen=True, kw_only=True):
    """Bytes of a blob that have arrived so far."""

    digest: Digest
    done: int
    total: int


class KeepRequest(Message, frozen=True, kw_only=True):
    """Manifests and the configuration of an image, at most 4 MiB each."""

    documents: tuple[bytes, ...]


class DropRequest(Message, frozen=True, kw_only=True):
    """Blobs that are no longer needed; one that does not exist is no error."""

    digests: tuple[Digest, ...]
    partial: bool = False
    """Whether what broke off of them goes too: where the disk is full."""
    aside: bool = False
    """Whether they are kept as if they had broken off: their pull failed, and may be asked for again."""


class LoadRequest(Message, frozen=True, kw_only=True):
    """An archive in the folder `incoming` (an OCI layout or docker-archive tar), by its file name there."""

    archive: str


class LoadedImage(Message, frozen=True, kw_only=True):
    """One image of an archive."""

    names: tuple[str, ...]
    """Normalised references with tag; may be empty."""
    manifest_digest: Digest | None
    """None for a docker-archive, which has no manifest of its own."""
    documents: tuple[bytes, ...] = ()
    """As in Resolved; none for a docker-archive."""
    config: bytes
    layers: tuple[Descriptor, ...]


class Loaded(Message, frozen=True, kw_only=True):
    """The images of an archive; their layers lie as blobs in the blob folder, ready to be unpacked."""

    images: tuple[LoadedImage, ...]


class Blobs(Message, frozen=True, kw_only=True):
    """What lies in the blob folder."""

    blobs: dict[Digest, int]
    """Size in bytes by digest."""


WANTED = Method("wanted", ResolveRequest, Wanted, deadline=30)
"""Which credential helpers a pull may need; no registry is asked."""
RESOLVE = Method("resolve", ResolveRequest, Resolved, deadline=120)
SIGNATURES = Method("signatures", SignaturesRequest, Signatures, deadline=120)
"""Without a request to anybody where registries.d names no place for the image's signatures."""
FETCH = Method("fetch", FetchRequest, Nothing, deadline=3600, progress=Progress)
"""Download a blob into the blob folder, verified; at once where it lies there already. Equal fetches join."""
KEEP = Method("keep", KeepRequest, Nothing, deadline=60)
"""Put documents among the blobs, each under its digest."""
LOAD = Method("load", LoadRequest, Loaded, deadline=600)
DROP = Method("drop", DropRequest, Nothing, deadline=30)
BLOBS = Method("blobs", Nothing, Blobs, deadline=10)

CONTRACT = Contract("image", WANTED, RESOLVE, SIGNATURES, FETCH, KEEP, LOAD, DROP, BLOBS)
