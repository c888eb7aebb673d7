"""The archive of a checkpoint as podman, CRI-O, containerd and checkpointctl lay it out.

    config.dump   spec.dump   bind.mounts     what it is of, the OCI specification that ran, its bind mounts: JSON
    checkpoint/                               what CRIU dumped
    rootfs-diff.tar   deleted.files           what the container changed in its root
    dump.log   stats-dump                     what CRIU said

Descriptions are pure; `write` puts all parts of a checkpoint's folder together. Run by the runtime worker. Beside what
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

IMAGES = "checkpoint"
DUMP_LOG = "dump.log"
PARTS = ("bind.mounts", "config.dump", "deleted.files", DUMP_LOG, "rootfs-diff.tar", "spec.dump", "stats-dump")
"""Files beside the folder of CRIU's; which of them there are is seen."""
_NEVER = "0001-01-01T00:00:00Z"
"""How Go writes a time that is not set."""


def config_dump(seal: SealRequest, handler: str, *, now: int) -> bytes:
    """What the checkpoint is of; times in nanoseconds since 1970."""
    said = {
        "id": seal.container,
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
    return msgspec.json.encode(said)


def spec_dump(spec: Mapping[str, object], request: CreateRequest, seal: SealRequest) -> bytes:
    """The OCI specification that ran, with what CRI-O looks for in its annotations."""
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
    """Each bind mount, and whether its source is a folder or a file."""
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
    """The archive of a checkpoint's folder. Files alone, by name; what else lies there is left out."""
    images = folder / IMAGES
    out.write(tar_header.header(IMAGES.encode(), Kind.DIRECTORY, mode=0o700))
    for name in sorted(os.listdir(images)):
        _write_file(images / name, f"{IMAGES}/{name}", out)
    for name in PARTS:
        _write_file(folder / name, name, out)
    out.write(tar_header.END)


def _write_file(path: Path, name: str, out: IO[bytes]) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        return
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return
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
