"""Archives of images as `crisp image save` writes them: a tar stream with an OCI layout, or in the form that `docker
load` reads.

Every blob is hashed on its way in: a wrong digest ends the archive. A layer is written as a tar; if no tar can be made,
it is written compressed, as it came from the registry.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from kernel.errors import Corrupt
from kernel.ids import Digest, digest_hex

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_TAR = "application/vnd.oci.image.layer.v1.tar"
_OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True, slots=True)
class Part:
    """A blob of an image."""

    media_type: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Saved:
    """The parts of an image that an archive needs."""

    tags: tuple[str, ...]
    config: bytes
    layers: tuple[Part, ...]
    manifest: bytes = b""
    """The image's own manifest; if it is empty, an OCI layout gets a new one."""


class Archive(Protocol):
    """A kind of archive."""

    def layer(self, part: Part, source: BinaryIO) -> None:
        """Add a layer, unless the archive has it."""

    def close(self, images: Sequence[Saved]) -> None:
        """Add the documents of images, all of whose layers are in the archive, and end it."""


class _Tar:
    """A tar stream that holds each blob once."""

    def __init__(self, out: BinaryIO) -> None:
        self._tar = tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115  # see close
        self._there: set[str] = set()

    def bytes(self, path: str, data: bytes) -> None:
        """Add a file."""
        self._add(path, len(data), io.BytesIO(data))

    def blob(self, path: str, part: Part, source: BinaryIO) -> None:
        """Add a blob; raises Corrupt if it does not have its digest or size."""
        hashed = _Hashed(source)
        self._add(path, part.size, hashed)
        if hashed.read(1):
            raise Corrupt(f"blob {part.digest}: is longer than {part.size} bytes")
        if hashed.digest != part.digest:
            raise Corrupt(f"blob {part.digest}: its bytes have digest {hashed.digest}")

    def has(self, path: str) -> bool:
        """Return whether the stream has a file."""
        return path in self._there

    def close(self) -> None:
        """Write the end."""
        self._tar.close()

    def _add(self, path: str, size: int, source: BinaryIO | _Hashed) -> None:
        if path in self._there:
            return
        self._there.add(path)
        info = tarfile.TarInfo(path)
        info.size, info.mode = size, 0o644
        try:
            self._tar.addfile(info, source)  # type: ignore[arg-type]  # it only reads
        except OSError as error:
            if error.errno is None:  # an error of tarfile itself: the source ended too early
                raise Corrupt(f"{path}: is shorter than {size} bytes") from error
            raise


class _Hashed:
    """A source that is hashed as it is read."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def read(self, count: int) -> bytes:
        data = self._source.read(count)
        self._hash.update(data)
        return data

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


class OciLayout:
    """An OCI layout (image-spec, image-layout.md)."""

    def __init__(self, out: BinaryIO) -> None:
        self._tar = _Tar(out)
        self._tar.bytes("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')

    def layer(self, part: Part, source: BinaryIO) -> None:
        """Add a layer."""
        if not self._tar.has(path := _blob(part.digest)):
            self._tar.blob(path, part, source)

    def close(self, images: Sequence[Saved]) -> None:
        """Add the manifests, and the index with an entry for each name."""
        lines: list[dict[str, object]] = []
        for image in images:
            config = Part(OCI_CONFIG, _digest(image.config), len(image.config))
            self._tar.bytes(_blob(config.digest), image.config)
            manifest = image.manifest or json.dumps({
                "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": _described(config),
                "layers": [_described(layer) for layer in image.layers],
            }).encode()  # fmt: skip
            kind = json.loads(image.manifest).get("mediaType", OCI_MANIFEST) if image.manifest else OCI_MANIFEST
            self._tar.bytes(_blob(_digest(manifest)), manifest)
            line = _described(Part(kind, _digest(manifest), len(manifest)))
            named = [{**line, "annotations": dict.fromkeys(_NAMES, tag)} for tag in image.tags]
            lines += named or [line]
        index = {"schemaVersion": 2, "mediaType": _OCI_INDEX, "manifests": lines}
        self._tar.bytes("index.json", json.dumps(index).encode())
        self._tar.close()


class DockerArchive:
    """The format of `docker save`, which every tool loads."""

    def __init__(self, out: BinaryIO) -> None:
        self._tar = _Tar(out)

    def layer(self, part: Part, source: BinaryIO) -> None:
        """Add a layer."""
        if not self._tar.has(path := _layer(part.digest)):
            self._tar.blob(path, part, source)

    def close(self, images: Sequence[Saved]) -> None:
        """Add the configurations, and the list of images."""
        lines = []
        for image in images:
            config = f"{digest_hex(_digest(image.config))}.json"
            self._tar.bytes(config, image.config)
            layers = [_layer(layer.digest) for layer in image.layers]
            lines.append({"Config": config, "RepoTags": list(image.tags), "Layers": layers})
        self._tar.bytes("manifest.json", json.dumps(lines).encode())
        self._tar.close()


def _digest(data: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def _described(part: Part) -> dict[str, object]:
    return {"mediaType": part.media_type, "digest": part.digest, "size": part.size}


def _blob(digest: Digest) -> str:
    return f"blobs/sha256/{digest_hex(digest)}"


def _layer(digest: Digest) -> str:
    return f"{digest_hex(digest)}/layer.tar"
