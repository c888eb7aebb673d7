"""The parts of a checkpoint, by the names that podman, CRI-O and checkpointctl know as well. Pure.

The child that reads an archive imports this too, so it imports the standard library alone.
"""

from __future__ import annotations

import re

CONFIG, SPEC = b"config.dump", b"spec.dump"
"""Two descriptions: of the container, and the OCI specification that ran."""
ROOTFS_DIFF, DELETED = b"rootfs-diff.tar", b"deleted.files"
"""The container's changes in its root: a tar of the files that it wrote, and a list of the paths that it deleted."""
IMAGES = b"checkpoint"
"""The folder of the files that CRIU dumped."""
INVENTORY = b"inventory.img"
"""A file in that folder that every dump of CRIU has."""
MOST_JSON = 8 << 20
"""Most bytes of a description, or of the list of deleted files."""
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


def is_image_name(name: bytes) -> bool:
    """Return whether CRIU could have given a file this name."""
    return _NAME.fullmatch(name) is not None
