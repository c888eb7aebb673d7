"""Simple signing's signatures, in a lookaside store: a folder of this host, or below a URL (containers-signature(5)).

They are `<store>/<path>@sha256=<hex>/signature-<number>`, counted from 1; the first gap is the end. Runs in a thread of
the worker's pool.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from kernel.contracts.oci import Signature
from kernel.errors import FailedPrecondition, Unavailable
from kernel.formats.reference import Reference
from kernel.ids import Digest, digest_hex
from services.image.registry.address import Url
from services.image.registry.failures import status_text
from services.image.registry.transport import Transport
from services.image.signatures.collected import MOST, SIZE_LIMIT, Collected

_NEWER_FORMAT = b"\0"
"""The first byte of a store's files in formats later than simple signing."""
Read = Callable[[str], bytes | None]
"""Returns the content of a file by its name below the store; None if there is none."""


def collect(read: Read, image: Reference, of: Digest, collected: Collected) -> None:
    """Collect the signatures of a digest in a store. FailedPrecondition if they are too many."""
    for number in range(1, MOST + 2):
        data = read(f"{image.path}@sha256={digest_hex(of)}/signature-{number}")
        if data is None:
            return
        if not data.startswith(_NEWER_FORMAT):
            collected.add(Signature(kind="simple", payload=data))
    raise FailedPrecondition(f"image {image} has more signatures than the {MOST} that crisp looks at")


def on_server(transport: Transport, base: Url) -> Read:
    """Return a reader of the files below a URL."""

    def read(name: str) -> bytes | None:
        url = Url(base.origin, f"{base.target.rstrip('/')}/{name}")
        response = transport.get(url, {"Accept": "*/*"})
        if response.status == 200:
            return response.read(SIZE_LIMIT)
        response.close()
        if response.status == 404:
            return None
        raise Unavailable(f"signature store {base.origin}: {status_text(response.status)}")

    return read


def in_folder(folder: Path, *, configured: bool = True) -> Read:
    """Return a reader of the files below a folder.

    `configured`: whether an administrator has named the folder. One that is only the default counts as empty if this
    user may not enter it.
    """

    def read(name: str) -> bytes | None:
        path = folder / name
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR) or (not configured and error.errno == errno.EACCES):
                return None
            raise FailedPrecondition(
                f"signature {path} cannot be read: {error.strerror}",
                hint="image.lookaside_dirs lists the folders of signatures that the image worker may read",
            ) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FailedPrecondition(f"signature {path} is not a plain file")
        with os.fdopen(fd, "rb") as file:
            data = file.read(SIZE_LIMIT + 1)
        if len(data) > SIZE_LIMIT:
            raise FailedPrecondition(f"signature {path} is larger than {SIZE_LIMIT} bytes")
        return data

    return read
