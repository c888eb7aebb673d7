"""Archives of `crisp image load`: an OCI layout or what `docker save` writes, as a tar file in the folder `incoming`.

Runs in a thread of the worker's pool. The file is the administrator's, but its content may be anybody's: members are
read as streams (`tarball`), every blob is hashed as it is copied, and the blobs of all images appear together at the
end or not at all. The file itself stays; who put it there removes it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import msgspec

from kernel.contracts.image import Loaded, LoadedImage
from kernel.contracts.oci import Descriptor
from kernel.errors import Cancelled, Corrupt, FailedPrecondition, Internal, InvalidInput, NotFound
from kernel.formats import reference, strict_json
from kernel.ids import Digest, digest, digest_hex
from services.image.archives.tarball import Tarball
from services.image.blobs import BlobFolder, Incoming
from services.image.documents import configuration, manifest, media_types, selection, untrusted
from services.image.documents.manifest import SIZE_LIMIT, Index, IndexEntry
from services.image.documents.platforms import Platform

_T = TypeVar("_T")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}", re.ASCII)
_IMAGES = 100
_LAYERS = 500
_CONTAINERD_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"
_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"


class _Layout(msgspec.Struct, frozen=True, rename="camel"):
    image_layout_version: str


class _Saved(msgspec.Struct, frozen=True, rename="pascal"):
    """An image in the `manifest.json` of `docker save`."""

    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


def load(folder: Path, archive: str, blobs: BlobFolder, platform: Platform, given_up: Callable[[], bool]) -> Loaded:
    """Copy the layers of an archive's images into the blob folder, and return the images.

    InvalidInput if it is no such archive, Corrupt if a digest in it is wrong. `given_up` is called between pieces of a
    layer: once it returns True, nothing is kept.
    """
    fd = _open(folder, archive)
    try:
        tarball = Tarball(fd, f"archive {archive}")
        with ExitStack() as stack:
            reading = _Reading(tarball, f"archive {archive}", blobs, stack, given_up)
            if tarball.find("oci-layout") is not None and tarball.find("index.json") is not None:
                images = reading.layout(platform)
            elif tarball.find("manifest.json") is not None:
                images = reading.saved(platform)
            else:
                raise InvalidInput(f"archive {archive}: neither an OCI layout nor an archive of docker save")
            reading.commit()
    except OSError as error:
        raise Internal(f"archive {archive}: cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)
    return Loaded(images=images)


def _open(folder: Path, archive: str) -> int:
    if not _NAME.fullmatch(archive):
        raise InvalidInput(f"archive {archive[:200]!a} is not the name of a file")
    try:
        fd = os.open(folder / archive, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"archive {archive} is not in {folder}") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InvalidInput(f"archive {archive} is a symbolic link") from error
        raise FailedPrecondition(f"archive {archive} cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InvalidInput(f"archive {archive} is not a regular file")
    return fd


class _Reading:
    """An archive that is being read."""

    def __init__(
        self, tarball: Tarball, name: str, blobs: BlobFolder, stack: ExitStack, given_up: Callable[[], bool]
    ) -> None:
        self._tarball = tarball
        self._name = name
        self._blobs = blobs
        self._stack = stack
        self._given_up = given_up
        self._written: dict[Digest, Incoming] = {}
        self._paths: dict[str, Descriptor] = {}

    def commit(self) -> None:
        """Put all blobs into the folder."""
        for incoming in self._written.values():
            incoming.commit()

    def layout(self, platform: Platform) -> tuple[LoadedImage, ...]:
        """Return the images of an OCI layout (image-spec, image-layout.md)."""
        version = self._json("oci-layout", _Layout).image_layout_version
        if version != "1.0.0":
            raise FailedPrecondition(f"{self._name}: OCI layout version {version[:20]!a} is not supported")
        index = manifest.parse(self._tarball.read("index.json", SIZE_LIMIT), media_types.OCI_INDEX, self._name)
        if not isinstance(index, Index) or not 0 < len(index.entries) <= _IMAGES:
            raise FailedPrecondition(f"{self._name}: its index does not have 1 to {_IMAGES} images")
        names: dict[Digest, list[str]] = {}
        images: dict[Digest, Descriptor] = {}
        for entry in index.entries:
            images[entry.blob.digest] = entry.blob
            names.setdefault(entry.blob.digest, []).extend(_names(entry, self._name))
        return tuple(self._image(blob, tuple(dict.fromkeys(names[key])), platform) for key, blob in images.items())

    def saved(self, platform: Platform) -> tuple[LoadedImage, ...]:
        """Return the images of an archive that `docker save` wrote."""
        images = self._json("manifest.json", list[_Saved])
        if not 0 < len(images) <= _IMAGES:
            raise FailedPrecondition(f"{self._name}: its manifest.json does not have 1 to {_IMAGES} images")
        found = []
        for image in images:
            if len(image.layers) > _LAYERS:
                raise FailedPrecondition(f"{self._name}: an image of more than {_LAYERS} layers")
            config = self._tarball.read(image.config, SIZE_LIMIT)
            configuration.check(config, len(image.layers), platform, f"{self._name}: {image.config[:100]!a}")
            found.append(
                LoadedImage(
                    names=tuple(_reference(name, self._name) for name in image.repo_tags or ()),
                    manifest_digest=None,
                    config=config,
                    layers=tuple(self._file(path) for path in image.layers),
                )
            )
        return tuple(found)

    def _image(self, blob: Descriptor, names: tuple[str, ...], platform: Platform) -> LoadedImage:
        what = f"{self._name}: image {names[0] if names else blob.digest}"
        top = manifest.parse(data := self._verified(blob, what), blob.media_type, what)
        parsed, below = selection.descend(
            top, platform, what, lambda entry: (self._verified(entry, what), entry.media_type)
        )
        chosen = untrusted.digest_of((data, *below)[-1])
        config = self._verified(parsed.config, what)
        configuration.check(config, len(parsed.layers), None if below else platform, what)
        for layer in parsed.layers:
            self._layer(layer, what)
        documents = (data, *below)
        return LoadedImage(
            names=names, manifest_digest=chosen, documents=documents, config=config, layers=parsed.layers
        )

    def _verified(self, blob: Descriptor, what: str) -> bytes:
        data = self._tarball.read(_member(blob.digest), SIZE_LIMIT)
        untrusted.verify(data, blob, what)
        return data

    def _layer(self, layer: Descriptor, what: str) -> None:
        """Copy a layer of an OCI layout."""
        if layer.digest in self._written or self._blobs.has(layer):
            return
        member = self._tarball.find(_member(layer.digest))
        if member is None or member.size != layer.size:
            raise Corrupt(f"{what}: layer {layer.digest} is missing or not of {layer.size} bytes")
        self._written[layer.digest] = self._copy(_member(layer.digest), layer.digest)

    def _file(self, path: str) -> Descriptor:
        """Copy a layer of `docker save`; its digest is known only when it has been copied."""
        if path in self._paths:
            return self._paths[path]
        member = self._tarball.find(path)
        if member is None:
            raise InvalidInput(f"{self._name}: has no file {path[:200]!a}")
        start = next(self._tarball.chunks(member), b"")
        kind = media_types.LAYER_TAR
        if start.startswith(_GZIP):
            kind = media_types.LAYER_GZIP
        elif start.startswith(_ZSTD):
            kind = media_types.LAYER_ZSTD
        incoming = self._copy(path, None)
        found = Descriptor(media_type=kind, digest=incoming.digest, size=incoming.size)
        if found.digest not in self._written and not self._blobs.has(found):
            self._written[found.digest] = incoming
        self._paths[path] = found
        return found

    def _copy(self, path: str, expected: Digest | None) -> Incoming:
        member = self._tarball.find(path)
        assert member is not None  # the callers have looked
        self._blobs.check_room(member.size)
        incoming = self._stack.enter_context(self._blobs.begin())
        for chunk in self._tarball.chunks(member):
            if self._given_up():
                raise Cancelled(f"{self._name}: given up")
            incoming.write(chunk)
        incoming.seal(expected, self._name)
        return incoming

    def _json(self, path: str, kind: type[_T]) -> _T:
        try:
            return msgspec.convert(strict_json.loads(self._tarball.read(path, SIZE_LIMIT)), kind)
        except strict_json.NotStrictJson as error:
            raise InvalidInput(f"{self._name}: {path}: {error}") from error
        except msgspec.ValidationError as error:
            raise InvalidInput(f"{self._name}: {path}: {str(error)[:200]!a}") from error


def _member(blob: Digest) -> str:
    return f"blobs/sha256/{digest_hex(digest(blob))}"


def _names(entry: IndexEntry, archive: str) -> list[str]:
    """Return an image's references. A ref.name that is only a tag names no repository, so it is ignored."""
    annotations: Mapping[str, str] = entry.annotations
    text = annotations.get(_CONTAINERD_NAME) or annotations.get(_REF_NAME, "")
    return [_reference(text, archive)] if "/" in text or ":" in text else []


def _reference(text: str, archive: str) -> str:
    try:
        return str(reference.parse(text))
    except InvalidInput as error:
        raise InvalidInput(f"{archive}: {error.message}", hint=error.hint) from error
