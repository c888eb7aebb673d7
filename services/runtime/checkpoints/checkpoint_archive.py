"""The archive of a checkpoint, in the layout of podman, CRI-O, containerd and checkpointctl.

    config.dump   spec.dump   bind.mounts     JSON: the container, the OCI specification that ran, its bind mounts
    checkpoint/                               the files that CRIU dumped
    rootfs-diff.tar   deleted.files           the container's changes in its root
    dump.log   stats-dump                     CRIU's log and statistics

Run by the runtime worker, in threads. `write` puts all parts of a checkpoint's folder together. Beside the fields that
crisp needs, spec.dump has the annotations without which CRI-O refuses to restore an archive.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import msgspec

from kernel.contracts.runtime import CreateRequest, SealRequest
from kernel.formats import tar_header
from kernel.formats.tar_header import Kind
from kernel.host import files

IMAGES = "checkpoint"
DUMP_LOG = "dump.log"
PARTS = ("bind.mounts", "config.dump", "deleted.files", DUMP_LOG, "rootfs-diff.tar", "spec.dump", "stats-dump")
"""Files beside CRIU's folder; those that are there are written."""
_NEVER = "0001-01-01T00:00:00Z"
"""A time that is not set, as Go writes it."""


def config_dump(seal: SealRequest, handler: str, *, now: int) -> bytes:
    """Return the description of the container; `now` in nanoseconds since 1970. Pure."""
    described = {
        "id": seal.container_id,
        "name": seal.name,
        "rootfsImage": seal.image_name,
        "rootfsImageRef": seal.image_id.removeprefix("sha256:"),
        "rootfsImageName": seal.image_tag or seal.image_name,
        "runtime": handler,
        "createdTime": _time(seal.created_at),
        "checkpointedTime": _time(now),
        "restoredTime": _NEVER,
        "restored": seal.restored,
    }
    return msgspec.json.encode(described)


def spec_dump(spec: Mapping[str, object], request: CreateRequest, seal: SealRequest) -> bytes:
    """Return the OCI specification that ran, with the annotations that CRI-O looks for. Pure."""
    own, known = spec.get("annotations"), {"name": request.name, "attempt": request.attempt}
    annotations = {
        **(own if isinstance(own, dict) else {}),
        "io.kubernetes.cri-o.Annotations": msgspec.json.encode(request.annotations).decode(),
        "io.kubernetes.cri-o.Labels": msgspec.json.encode(request.labels).decode(),
        "io.kubernetes.cri-o.Metadata": msgspec.json.encode(known).decode(),
        "io.kubernetes.cri-o.Created": _time(seal.created_at),
    }
    return msgspec.json.encode({**spec, "annotations": annotations})


def bind_mounts(spec: Mapping[str, object]) -> bytes:
    """Return each bind mount of a specification, and whether its source is a folder or a file."""
    mounts = spec.get("mounts")
    found = []
    for mount in mounts if isinstance(mounts, list) else []:
        if mount.get("type") == "bind" and os.path.exists(mount["source"]):
            status = os.stat(mount["source"])
            found.append({
                "source": mount["source"], "destination": mount["destination"],
                "file_type": "directory" if stat.S_ISDIR(status.st_mode) else "file",
                "permissions": stat.S_IMODE(status.st_mode),
            })  # fmt: skip
    return msgspec.json.encode(found)


def write(folder: Path, out: IO[bytes]) -> None:
    """Write the archive of a checkpoint's folder: plain files of the known names, and nothing else in it."""
    images = folder / IMAGES
    out.write(tar_header.header(IMAGES.encode(), Kind.DIRECTORY, mode=0o700))
    for name in sorted(os.listdir(images)):
        _write_file(images / name, f"{IMAGES}/{name}", out)
    for name in PARTS:
        _write_file(folder / name, name, out)
    out.write(tar_header.END)


def _write_file(path: Path, name: str, out: IO[bytes]) -> None:
    try:
        fd = files.open_plain(path)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EINVAL):  # a link, or no plain file
            raise
        return
    try:
        status = os.fstat(fd)
        left = status.st_size
        out.write(tar_header.header(os.fsencode(name), size=left, mode=0o600, mtime_ns=status.st_mtime_ns))
        out.flush()
        while left:
            sent = os.sendfile(out.fileno(), fd, None, left)
            if not sent:
                raise OSError(errno.EIO, f"{name} became shorter while it was read")
            left -= sent
        out.write(tar_header.padding(status.st_size))
    finally:
        os.close(fd)


def _time(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"
