"""Media types of layers, and blobs that are no files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.config.sections import Config
from kernel.errors import InvalidInput, NotFound
from kernel.ids import Digest
from services.storage.layers.blob import compression, open_blob

BLOB = Digest("sha256:" + "a" * 64)


@pytest.mark.parametrize(
    ("media_type", "form"),
    [
        ("application/vnd.oci.image.layer.v1.tar", ""),
        ("application/vnd.oci.image.layer.v1.tar+gzip", "gzip"),
        ("application/vnd.oci.image.layer.v1.tar+zstd", "zstd"),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", "gzip"),
    ],
)
def test_media_types(media_type: str, form: str) -> None:
    assert compression(media_type) == form


@pytest.mark.parametrize("media_type", ["", "application/octet-stream", "application/vnd.oci.image.layer.v1.tar+xz"])
def test_other_media_types_are_refused(media_type: str) -> None:
    with pytest.raises(InvalidInput, match="media type"):
        compression(media_type)


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    paths = Config(root=str(tmp_path)).paths
    paths.blobs.mkdir(parents=True)
    place = paths.blob(BLOB)
    with pytest.raises(NotFound, match="not in the blob folder"):
        open_blob(paths, BLOB)
    place.symlink_to("/etc/passwd")
    with pytest.raises(NotFound, match="not in the blob folder"):
        open_blob(paths, BLOB)
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(NotFound, match="not a regular file"):
        open_blob(paths, BLOB)
    place.unlink()
    place.write_bytes(b"x")
    fd = open_blob(paths, BLOB)
    assert os.read(fd, 2) == b"x"
    os.close(fd)
