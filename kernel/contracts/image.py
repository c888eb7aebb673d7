"""The image worker: references, registries and blobs, without any privilege.

Nothing that it returns is trusted: the front computes the configuration's digest itself, and storage hashes what it
unpacks.

Errors: InvalidInput (the reference), NotFound (no endpoint has the image), Unauthenticated, PermissionDenied,
Unavailable (a registry is away, stalls or breaks off), Corrupt (content does not match its digest), ResourceExhausted,
FailedPrecondition (no manifest for the platform, a blocked registry, an unsupported media type). Every error of a
registry names its host and the reason.
"""

from __future__ import annotations

from kernel.contracts.definition import Contract, Message, Method, Nothing
from kernel.contracts.oci import Auth, Descriptor, Signature
from kernel.ids import Digest


class ResolveRequest(Message, frozen=True, kw_only=True):
    """An image, given by a reference."""

    reference: str
    """The reference with its registry: the front has completed short names."""
    auth: Auth | None = None
    """The request's own credentials. If None, the node's credentials are used."""
    namespace: str = ""
    """Kubernetes namespace of the pod that the image is pulled for; empty if there is none."""
    helped: dict[str, Auth] = {}
    """Credentials that credential helpers returned, by server."""


class Wanted(Message, frozen=True, kw_only=True):
    """The credential helpers that a pull needs."""

    helpers: dict[str, tuple[str, ...]]
    """Names of the helpers that may have a server's credentials, by server, in the order in which they are tried."""


class Resolved(Message, frozen=True, kw_only=True):
    """A manifest that was chosen for the platform, fetched and verified."""

    name: str
    """The repository with its registry, normalised: `docker.io/library/busybox`."""
    tag: str
    """Empty if the reference has a digest alone."""
    digest: Digest
    """Digest of the index if the reference names one, else of the manifest."""
    manifest_digest: Digest
    """Digest of the chosen manifest."""
    documents: tuple[bytes, ...]
    """The manifest as fetched, preceded by the index that named it and the index that named that one, if there are any;
    at most 4 MiB each."""
    config: bytes
    """The image configuration as fetched, at most 4 MiB (image-spec, config.md)."""
    layers: tuple[Descriptor, ...]
    """The compressed layers, lowest first."""


class SignaturesRequest(Message, frozen=True, kw_only=True):
    """The signatures of a resolved image, at the places that registries.d names (containers-registries.d(5))."""

    reference: str
    """The image's reference: see ResolveRequest."""
    digests: tuple[Digest, ...]
    """Digests of the manifest, and of the index that named it."""
    auth: Auth | None = None
    """See ResolveRequest."""
    namespace: str = ""
    """See ResolveRequest."""
    helped: dict[str, Auth] = {}
    """See ResolveRequest."""


class Signatures(Message, frozen=True, kw_only=True):
    """The signatures that were found."""

    signatures: tuple[Signature, ...]
    """All signatures, unverified: at most 128, and 256 KiB together."""


class FetchRequest(Message, frozen=True, kw_only=True):
    """One blob of a resolved image."""

    reference: str
    """The image's reference (see ResolveRequest), because a mirror may serve tags only, or digests only."""
    blob: Descriptor
    """The blob; its digest and size are verified."""
    auth: Auth | None = None
    """See ResolveRequest."""
    namespace: str = ""
    """See ResolveRequest."""
    helped: dict[str, Auth] = {}
    """See ResolveRequest."""


class Progress(Message, frozen=True, kw_only=True):
    """The progress of a download."""

    digest: Digest
    """Digest of the blob."""
    done: int
    """Bytes that have arrived."""
    total: int
    """Bytes of the whole blob."""


class KeepRequest(Message, frozen=True, kw_only=True):
    """Manifests and the configuration of an image, to be kept as blobs."""

    documents: tuple[bytes, ...]
    """The documents, at most 4 MiB each."""


class DropRequest(Message, frozen=True, kw_only=True):
    """Blobs that are no longer needed; one that does not exist is no error."""

    digests: tuple[Digest, ...]
    """Digests of the blobs."""
    partial: bool = False
    """Whether unfinished downloads of them are removed too, which is done if the disk is full."""
    aside: bool = False
    """Whether they are kept as unfinished downloads, which is done if their pull failed and may be repeated."""


class LoadRequest(Message, frozen=True, kw_only=True):
    """An archive: the tar of an OCI layout (image-spec, image-layout.md), or a docker-archive."""

    archive: str
    """Its file name in the folder `incoming`."""


class LoadedImage(Message, frozen=True, kw_only=True):
    """One image of an archive."""

    names: tuple[str, ...]
    """Normalised references with tag; may be empty."""
    manifest_digest: Digest | None
    """None for a docker-archive, which has no manifest of its own."""
    documents: tuple[bytes, ...] = ()
    """The image's documents (see Resolved); empty for a docker-archive."""
    config: bytes
    """The image configuration (image-spec, config.md)."""
    layers: tuple[Descriptor, ...]
    """The layers, lowest first."""


class Loaded(Message, frozen=True, kw_only=True):
    """The images of an archive; their layers lie in the blob folder, ready to be unpacked."""

    images: tuple[LoadedImage, ...]
    """All images of the archive."""


class Blobs(Message, frozen=True, kw_only=True):
    """The content of the blob folder."""

    blobs: dict[Digest, int]
    """Size in bytes by digest."""


WANTED = Method("wanted", ResolveRequest, Wanted, deadline=30)
"""Return the credential helpers that a pull may need; sends no request to a registry."""
RESOLVE = Method("resolve", ResolveRequest, Resolved, deadline=120)
"""Find the image of a reference, and choose, fetch and verify the manifest for the platform."""
SIGNATURES = Method("signatures", SignaturesRequest, Signatures, deadline=120)
"""Find the signatures of an image; sends no request if registries.d names no place for them."""
FETCH = Method("fetch", FetchRequest, Nothing, deadline=3600, progress=Progress)
"""Download a blob into the blob folder and verify it; returns at once if it lies there already. Calls for the same blob
join."""
KEEP = Method("keep", KeepRequest, Nothing, deadline=60)
"""Put documents among the blobs, each under its digest."""
LOAD = Method("load", LoadRequest, Loaded, deadline=600)
"""Read an archive, and put the layers of its images among the blobs."""
DROP = Method("drop", DropRequest, Nothing, deadline=30)
"""Remove blobs. A download under way ends if no call waits for it; one that is awaited goes on."""
BLOBS = Method("blobs", Nothing, Blobs, deadline=10)
"""List the blob folder."""

CONTRACT = Contract("image", WANTED, RESOLVE, SIGNATURES, FETCH, KEEP, LOAD, DROP, BLOBS)
