"""A checkpoint that is an image: its parts are copied out of the image's layers, with no link followed.

Runs in threads of the storage worker. The image may come from an attacker: unless its layers have plain files by known
names only, it is refused. Layers are given by their folders, lowest first; the topmost one that has a name counts.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from kernel.contracts.storage import Descriptions
from kernel.errors import InvalidInput
from services.storage.checkpoints.folder import os_errors, renew
from services.storage.checkpoints.parts import (
    CONFIG,
    DELETED,
    IMAGES,
    INVENTORY,
    MOST_JSON,
    ROOTFS_DIFF,
    SPEC,
    is_image_name,
)
from services.storage.trees import within


def describe(layers: Sequence[Path]) -> Descriptions:
    """Return the descriptions in an image of a checkpoint; InvalidInput if it is none."""
    return Descriptions(config=_description(layers, CONFIG), spec=_description(layers, SPEC))


def copy(layers: Sequence[Path], folder: Path) -> None:
    """Copy a checkpoint's parts into its folder, which is emptied first."""
    renew(folder)
    (folder / os.fsdecode(IMAGES)).mkdir(mode=0o700)
    with os_errors("checkpoint cannot be taken out of its image"):
        for path in (ROOTFS_DIFF, DELETED, *_images(layers)):
            found = _find(layers, path)
            if found is not None:
                try:
                    _copy(found, folder / os.fsdecode(path))
                finally:
                    os.close(found)
    if not (folder / os.fsdecode(IMAGES) / os.fsdecode(INVENTORY)).is_file():
        raise InvalidInput("it has no checkpoint/inventory.img: it is not of a checkpoint")


def _images(layers: Sequence[Path]) -> list[bytes]:
    names: set[bytes] = set()
    for layer in layers:
        top = os.open(layer, within.PLACE)
        try:
            fd = within.open_plain(top, IMAGES)
        except (FileNotFoundError, NotADirectoryError):
            continue
        finally:
            os.close(top)
        try:
            names.update(os.fsencode(name) for name in os.listdir(fd))
        finally:
            os.close(fd)
    for name in names:
        if not is_image_name(name):
            raise InvalidInput(f"{IMAGES + b'/' + name!r} has a name that no file of CRIU's has")
    return sorted(IMAGES + b"/" + name for name in names)


def _description(layers: Sequence[Path], name: bytes) -> bytes:
    with os_errors("checkpoint cannot be read"):
        found = _find(layers, name)
        if found is None:
            raise InvalidInput(f"it has no {name.decode()}: it is not of a checkpoint")
        with open(found, "rb") as file:
            data = file.read(MOST_JSON + 1)
    if len(data) > MOST_JSON:
        raise InvalidInput(f"{name.decode()} has more than {MOST_JSON} bytes")
    return data


def _find(layers: Sequence[Path], path: bytes) -> int | None:
    """Open a regular file in the topmost layer that has the path; InvalidInput for anything else there."""
    for layer in reversed(layers):
        top = os.open(layer, within.PLACE)
        try:
            fd = within.open_plain(top, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):
                raise
            raise InvalidInput(f"{path!r} is not a plain file") from error
        finally:
            os.close(top)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        raise InvalidInput(f"{path!r} is not a plain file")
    return None


def _copy(source: int, target: Path) -> None:
    with open(target, "xb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o600)) as file:
        while os.sendfile(file.fileno(), source, None, 1 << 30):
            pass
