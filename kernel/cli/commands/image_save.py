"""`crisp image save`: write images into an archive that any tool loads.

It runs as root. Manifests and configurations lie in the image worker's blob folder, and so do compressed layers if the
configuration keeps them (`image.keep_blobs`); storage makes the tars of all other layers again, one by one. Neither
folder is trusted: each byte is hashed on its way.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from kernel.cli.commands.image_archive import OCI_TAR, Archive, DockerArchive, OciLayout, Part, Saved
from kernel.cli.context import Context
from kernel.cli.exit_status import Exit
from kernel.cri.generated import node_pb2
from kernel.errors import (
    Corrupt,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    PermissionDenied,
    from_os,
)
from kernel.formats import strict_json
from kernel.host import files
from kernel.ids import Digest, digest

_EXPORT_SECONDS = 1800
_DOCUMENT_LIMIT = 4 << 20
_DOCKER_LAYERS = {
    "application/vnd.docker.image.rootfs.diff.tar": OCI_TAR,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{OCI_TAR}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": f"{OCI_TAR}+zstd",
}


def save(context: Context, options: Namespace) -> Exit:
    """Write images into an archive."""
    if options.output == "-" and sys.stdout.isatty():
        raise InvalidInput("an archive is not written to a terminal", hint="give --output FILE")
    found = [context.daemon.call(context.daemon.node.SaveImage, node_pb2.SaveImageRequest(image=name))
             for name in options.image]  # fmt: skip
    with _target(options.output) as out:
        archive: Archive = DockerArchive(out) if options.format == "docker" else OciLayout(out)
        saver = _Saver(context, archive, exact=options.format == "oci")
        archive.close([saver.image(one) for one in {one.id: one for one in found}.values()])
    if options.output != "-":
        names = [", ".join(one.tags) or one.id for one in found]
        if context.out.json:
            context.out.document([{"id": one.id, "names": list(one.tags)} for one in found])
        else:
            context.out.line(f"saved {'; '.join(names)} to {options.output}")
    return Exit.OK


@contextmanager
def _target(output: str) -> Iterator[BinaryIO]:
    """Yield the file of the archive. It gets its name once it is whole."""
    if output == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(output)
    part = f".{path.name}.{secrets.token_hex(4)}"
    try:
        with files.replacing(path, durable=True, mode=None, named=part) as out:
            yield out
    except OSError as error:
        raise from_os(error, f"archive {path} cannot be written", InvalidInput) from error


class _Saver:
    """Puts the layers of images into an archive."""

    def __init__(self, context: Context, archive: Archive, *, exact: bool) -> None:
        """`exact`: whether an image keeps its own manifest, if all blobs that it names are on disk."""
        self._context = context
        self._archive = archive
        self._exact = exact
        self._parts: dict[Digest, Part] = {}
        """Layers that are in the archive, by diff id."""

    def image(self, found: node_pb2.SaveImageResponse) -> Saved:
        """Add the layers of an image to the archive."""
        kept = {digest(blob) for blob in found.blobs}
        if found.id not in kept:
            raise FailedPrecondition(
                f"image {found.id}: its configuration was not kept", hint="pull it again, then save"
            )
        config = self._document(digest(found.id))
        diff_ids = [digest(one) for one in _json(config)["rootfs"]["diff_ids"]]
        manifests = [self._document(digest(one)) for one in found.manifest_digests if one in kept]
        for manifest in manifests if self._exact else []:
            blobs = _layers(manifest)
            if len(blobs) == len(diff_ids) and all(blob.digest in kept for blob in blobs):
                for blob in blobs:
                    self._add_blob(blob)
                return Saved(tuple(found.tags), config, tuple(blobs), manifest)
        compressed = {
            diff_id: blob
            for manifest in manifests
            for diff_id, blob in zip(diff_ids, _layers(manifest), strict=False)
            if blob.digest in kept
        }
        for diff_id in diff_ids:
            if diff_id not in self._parts:
                self._parts[diff_id] = self._add(diff_id, compressed.get(diff_id))
        layers = [self._parts[diff_id] for diff_id in diff_ids]
        return Saved(tuple(found.tags), config, tuple(layers))

    def _add(self, diff_id: Digest, blob: Part | None) -> Part:
        """Add a layer as a tar; if no tar can be made, as the blob that it was unpacked from."""
        try:
            return self._add_tar(diff_id)
        except FailedPrecondition:
            if blob is None:
                raise
        part = Part(_DOCKER_LAYERS.get(blob.media_type, blob.media_type), blob.digest, blob.size)
        self._add_blob(part)
        return part

    def _add_tar(self, diff_id: Digest) -> Part:
        daemon, name = self._context.daemon, f"{secrets.token_hex(16)}.tar"
        path = self._context.paths.outgoing / name
        try:
            request = node_pb2.ExportLayerRequest(diff_id=diff_id, name=name)
            part = Part(OCI_TAR, diff_id, daemon.call(daemon.node.ExportLayer, request, _EXPORT_SECONDS).size)
            with _open(path) as source:
                self._archive.layer(part, source)
        finally:
            with suppress(FileNotFoundError):
                path.unlink()
        return part

    def _add_blob(self, part: Part) -> None:
        with _open(self._context.paths.blob(part.digest)) as source:
            self._archive.layer(part, source)

    def _document(self, blob: Digest) -> bytes:
        with _open(self._context.paths.blob(blob)) as source:
            data = source.read(_DOCUMENT_LIMIT + 1)
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != blob:
            raise Corrupt(f"blob {blob}: its bytes have another digest")
        return data


def _json(data: bytes) -> dict[str, dict[str, list[str]]]:
    try:
        return cast("dict[str, dict[str, list[str]]]", strict_json.loads(data))  # the front has read it before
    except strict_json.NotStrictJson as error:
        raise Corrupt(f"a document of the image is not valid JSON: {error}") from error


def _layers(manifest: bytes) -> list[Part]:
    found = cast("list[dict[str, str]]", _json(manifest).get("layers", []))
    return [Part(str(one["mediaType"]), digest(one["digest"]), int(one["size"])) for one in found]


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """Open a file in a folder that another user can write: no link is followed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"{path} is gone", hint="pull the image again, then save") from error
    except PermissionError as error:
        raise PermissionDenied(f"{path} cannot be read", hint="run crisp as root") from error
    except OSError as error:
        raise Corrupt(f"{path} cannot be read: {error.strerror}") from error
    with os.fdopen(fd, "rb") as source:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Corrupt(f"{path} is not a regular file")
        yield source
