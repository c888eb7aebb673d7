"""A layer's blob before it is unpacked: its compression, the most bytes it may unpack to, and its file.

Runs in the storage worker. The image worker owns the folder of blobs and may have been taken over: so no link in it is
followed, and only a regular file is read.
"""

from __future__ import annotations

import errno
import os
import stat

from kernel.config.paths import Paths
from kernel.config.sections import StorageSection
from kernel.errors import Internal, InvalidInput, NotFound
from kernel.ids import Digest
from services.storage.tar import inflate
from services.storage.trees import within

_FREE_BYTES = 1 << 30
"""Bytes that a blob of any size may unpack to."""
_FORMATS = {
    "application/vnd.oci.image.layer.v1.tar": "",
    "application/vnd.oci.image.layer.v1.tar+gzip": inflate.GZIP,
    "application/vnd.oci.image.layer.v1.tar+zstd": inflate.ZSTD,
    "application/vnd.oci.image.layer.nondistributable.v1.tar": "",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": inflate.GZIP,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": inflate.ZSTD,
    "application/vnd.docker.image.rootfs.diff.tar": "",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": inflate.GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": inflate.ZSTD,
    "application/vnd.docker.image.rootfs.foreign.diff.tar": "",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": inflate.GZIP,
}
"""Compressions by media type (image-spec, media-types.md; Docker's image manifest, version 2 schema 2)."""


def compression(media_type: str) -> str:
    """Return how a blob of a media type is compressed; empty if it is not. InvalidInput if crisp cannot unpack it."""
    form = _FORMATS.get(media_type)
    if form is None:
        raise InvalidInput(f"layer has the media type {media_type!r}, which is not supported")
    return form


def most_bytes(blob_bytes: int, limits: StorageSection) -> int:
    """Return the most bytes of tar that a blob of `blob_bytes` may unpack to."""
    return min(limits.max_layer_bytes, max(_FREE_BYTES, blob_bytes * limits.max_layer_ratio))


def open_blob(paths: Paths, blob: Digest) -> int:
    """Open the file of a blob for reading; the caller closes it. NotFound if there is no regular file."""
    path = os.fsencode(paths.blob(blob).relative_to(paths.root))
    root = os.open(paths.root, within.PLACE)
    try:
        fd = within.open_plain(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise NotFound(f"blob {blob} is not in the blob folder") from error
        raise Internal(f"blob {blob} cannot be read: {error.strerror}") from error
    finally:
        os.close(root)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotFound(f"blob {blob} is not a regular file")
    return fd
