"""Image, ImageFsInfoResponse and the verbose part of ImageStatusResponse. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase

from kernel.contracts.records import Image
from kernel.contracts.storage import FsInfo, Usage
from kernel.cri.generated import cri_pb2
from kernel.errors import InvalidInput
from kernel.formats.reference import parse
from kernel.front.documents.image_config import user_of


def is_pinned(image: Image, patterns: Iterable[str]) -> bool:
    """Return Image.pinned: whether the kubelet must never remove the image.

    A pattern is a whole name or id, or contains `*`: `prefix*`, `*keyword*`.
    """
    names = (image.id, *image.tags, *image.digests)
    return any(fnmatchcase(name, pattern) for pattern in map(_spelled, patterns) for name in names)


def _spelled(pattern: str) -> str:
    """Return a pattern in the spelling of tags: one without wildcards is a reference as users write it."""
    if "*" in pattern:
        return pattern
    try:
        return str(parse(pattern))
    except InvalidInput:
        return pattern  # an id


def to_cri(image: Image, pinned: Iterable[str]) -> cri_pb2.Image:
    """Return an Image; `pinned` are the patterns of the configuration."""
    uid, username = user_of(image.config.user)
    name = next(iter((*image.tags, *image.digests, image.id)))
    return cri_pb2.Image(
        id=image.id,
        repo_tags=image.tags,
        repo_digests=image.digests,
        size=max(image.size, 1),
        uid=None if uid is None else cri_pb2.Int64Value(value=uid),
        username=username,
        spec=cri_pb2.ImageSpec(image=name),
        pinned=is_pinned(image, pinned),
    )


def info(image: Image) -> dict[str, str]:
    """Return ImageStatusResponse.info: the image's configuration as JSON, under the key that other runtimes use."""
    config = image.config
    spec = {
        "os": "linux",
        "config": {
            "User": config.user,
            "Env": config.env,
            "Entrypoint": config.entrypoint,
            "Cmd": config.cmd,
            "WorkingDir": config.working_dir,
            "Volumes": {volume: {} for volume in config.volumes},
            "StopSignal": config.stop_signal,
            "Labels": config.labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in image.layers]},
    }
    return {"info": json.dumps({"imageSpec": spec, "labels": config.labels})}


def fs_info_to_cri(found: FsInfo, at: int) -> cri_pb2.ImageFsInfoResponse:
    """Return an ImageFsInfoResponse. `at` is when the sizes were measured, in nanoseconds since 1970."""

    def usage(mountpoint: str, used: Usage) -> cri_pb2.FilesystemUsage:
        return cri_pb2.FilesystemUsage(
            timestamp=at,
            fs_id=cri_pb2.FilesystemIdentifier(mountpoint=mountpoint),
            used_bytes=cri_pb2.UInt64Value(value=used.bytes),
            inodes_used=cri_pb2.UInt64Value(value=used.inodes),
        )

    return cri_pb2.ImageFsInfoResponse(
        image_filesystems=[usage(found.images_mountpoint, found.images)],
        container_filesystems=[usage(found.containers_mountpoint, found.containers)],
    )
