"""Signatures as they are found: beside the image in its registry, or in a lookaside store. Nothing here verifies them.

Runs in a thread of the worker's pool. Cosign keeps an image's signatures under the tag `sha256-<hex>.sig` of its
repository (SIGNATURE_SPEC.md): a manifest whose layers are the signed documents, with the signatures in annotations.
Simple signing keeps them as `<store>/<path>@sha256=<hex>/signature-<number>`, counted from 1. Whoever may write there
may write without end, so there is a limit to what is looked at. Referrers are not asked for.
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from kernel.contracts.oci import Descriptor, Signature
from kernel.errors import Corrupt, FailedPrecondition, InvalidInput, Unavailable
from kernel.formats import strict_json
from kernel.formats.reference import Reference
from kernel.ids import Digest, digest, digest_hex
from services.image.registry.address import Url
from services.image.registry.distribution import Repository
from services.image.registry.transport import Transport, status_text

MOST = 128
"""Signatures of one image."""
MOST_BYTES = 256 << 10
"""Of all of them together."""
SIZE_LIMIT = 64 << 10
"""Of one."""
_LAYER = "application/vnd.dev.cosign.simplesigning.v1+json"
_ANNOTATION = "dev.cosignproject.cosign/signature"
_FOREIGN = b"\0"
"""Begins files of a lookaside that are of later formats."""


class _Layer(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = {}


class _Manifest(msgspec.Struct, frozen=True):
    layers: list[_Layer]


class Found:
    """Signatures of one image, up to the limits."""

    def __init__(self, image: Reference) -> None:
        self._image = image
        self._signatures: dict[Signature, None] = {}
        self._bytes = 0

    def add(self, signature: Signature) -> None:
        """FailedPrecondition where there are too many."""
        if signature in self._signatures:
            return
        self._bytes += len(signature.payload) + len(signature.signature)
        if len(self._signatures) >= MOST or self._bytes > MOST_BYTES:
            raise FailedPrecondition(
                f"image {self._image} has more signatures than crisp looks at: {MOST}, {MOST_BYTES >> 10} KiB together"
            )
        self._signatures[signature] = None

    @property
    def all(self) -> tuple[Signature, ...]:
        """In the order that they were found."""
        return tuple(self._signatures)


def tag_of(of: Digest) -> str:
    """The tag of a digest's signatures."""
    return f"sha256-{digest_hex(of)}.sig"


def attached(repository: Repository, of: Digest, found: Found) -> None:
    """Cosign's signatures of a digest; NotFound where its repository has none."""
    what = f"signatures of {of}"
    data, _, _ = repository.manifest(tag_of(of), what)
    payloads: dict[Digest, bytes] = {}
    for blob, signature in parse(data, repository.says(what)):
        if blob.digest not in payloads:
            payloads[blob.digest] = repository.small_blob(blob, SIZE_LIMIT, what)
        found.add(Signature(kind="sigstore", payload=payloads[blob.digest], signature=signature))


def parse(data: bytes, what: str) -> list[tuple[Descriptor, bytes]]:
    """The signed documents that a manifest of cosign's lists, each with its signature. Pure."""
    try:
        layers = msgspec.convert(strict_json.loads(data), _Manifest).layers
    except (strict_json.NotStrictJson, msgspec.ValidationError) as error:
        raise Corrupt(f"{what}: the manifest does not read: {str(error)[:200]!a}") from error
    if len(layers) > MOST:
        raise FailedPrecondition(f"{what}: {len(layers)} of them, more than the {MOST} that crisp looks at")
    return list(_signed(layers, what))


def _signed(layers: list[_Layer], what: str) -> Iterator[tuple[Descriptor, bytes]]:
    for layer in layers:
        if layer.media_type != _LAYER or _ANNOTATION not in layer.annotations:
            continue  # of another kind
        try:
            signature = base64.b64decode(layer.annotations[_ANNOTATION], validate=True)
            blob = Descriptor(media_type=_LAYER, digest=digest(layer.digest), size=layer.size)
        except (binascii.Error, InvalidInput) as error:
            raise Corrupt(f"{what}: one of them is malformed") from error
        if not 0 < layer.size <= SIZE_LIMIT or len(signature) > SIZE_LIMIT:
            raise FailedPrecondition(f"{what}: one of them is larger than {SIZE_LIMIT} bytes")
        yield blob, signature


def stored(read: Callable[[str], bytes | None], image: Reference, of: Digest, found: Found) -> None:
    """The signatures of a digest in a lookaside store; `read` gives a file below it, or None where there is none."""
    for number in range(1, MOST + 2):
        data = read(f"{image.path}@sha256={digest_hex(of)}/signature-{number}")
        if data is None:
            return
        if not data.startswith(_FOREIGN):
            found.add(Signature(kind="simple", payload=data))
    raise FailedPrecondition(f"image {image} has more signatures than the {MOST} that crisp looks at")


def from_server(transport: Transport, base: Url) -> Callable[[str], bytes | None]:
    """Reads below a URL."""

    def read(name: str) -> bytes | None:
        url = Url(base.origin, f"{base.target.rstrip('/')}/{name}")
        response = transport.get(url, {"Accept": "*/*"})
        if response.status == 200:
            return response.read(SIZE_LIMIT)
        response.close()
        if response.status == 404:
            return None
        raise Unavailable(f"signature store {base.origin}: {status_text(response.status)}")

    return read


def from_folder(folder: Path, *, asked: bool = True) -> Callable[[str], bytes | None]:
    """Reads below a folder; one that nobody `asked` for and that this user may not enter is one that is not there."""

    def read(name: str) -> bytes | None:
        path = folder / name
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR) or (not asked and error.errno == errno.EACCES):
                return None
            raise FailedPrecondition(
                f"signature {path} cannot be read: {error.strerror}",
                hint="image.lookaside_dirs lists the folders of signatures that the image worker may read",
            ) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FailedPrecondition(f"signature {path} is not a plain file")
        with os.fdopen(fd, "rb") as file:
            data = file.read(SIZE_LIMIT + 1)
        if len(data) > SIZE_LIMIT:
            raise FailedPrecondition(f"signature {path} is larger than {SIZE_LIMIT} bytes")
        return data

    return read
