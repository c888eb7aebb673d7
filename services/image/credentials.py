"""The node's own credentials, for pulls whose request brings none: files of containers-auth.json(5).

Files are read in this order: that of the pod's namespace for the image's repository, the namespace's, the node's; the
helpers of registries.conf come last. A helper is a program, which this worker cannot start: it is only named, and the
front has the runtime worker run it. A file is read again when it changes. Used in threads.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kernel.contracts.oci import Auth
from kernel.errors import FailedPrecondition
from services.image.documents import auth_file
from services.image.documents.auth_file import AuthFile, Helper

_SIZE_LIMIT = 4 << 20
"""The most bytes of one file."""
_KEPT = 64
"""The most files whose content is kept in memory."""
_NAMESPACE = re.compile(r"[a-z0-9-]{1,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RequestCredentials:
    """The credentials of a request."""

    auth: Auth = field(default_factory=Auth)
    """The request's own credentials."""
    namespace: str = ""
    """The Kubernetes namespace of the pod that the request is for."""
    helped: Mapping[str, Auth] = field(default_factory=dict)
    """The answers of credential helpers, by server."""


class NodeCredentials:
    """The node's credentials in force."""

    def __init__(self, file: Path | None, folder: Path | None) -> None:
        """`file`: the node's. `folder`: the files of namespaces."""
        self._file = file
        self._folder = folder
        self._lock = threading.Lock()
        self._kept: dict[Path, tuple[tuple[int, int, int], AuthFile]] = {}

    def find(
        self, registry: str, path: str, *, namespace: str = "", name: str = "", helpers: Sequence[str] = ()
    ) -> Auth | tuple[Helper, ...]:
        """Return the credentials for a repository, or the helpers to run in turn; empty if there are none.

        `registry` and `path`: the repository at an endpoint. `name`: the repository that the user named. `helpers`:
        those that are run for every registry. FailedPrecondition if a file cannot be used: a pull without credentials
        might get another image than was meant.
        """
        files = [*files_of(self._folder, namespace, name)] if self._folder and namespace else []
        files += [self._file] if self._file else []
        with self._lock:
            for file in files:
                found = auth_file.find(self._read(file), registry, path)
                if isinstance(found, Auth):
                    return found
                if found is not None:
                    return (found,)
        return tuple(Helper(helper, auth_file.server_of(registry), certain=False) for helper in helpers)

    def _read(self, file: Path) -> AuthFile:
        try:
            status = file.stat()
            signature = (status.st_mtime_ns, status.st_size, status.st_ino)
            if file in self._kept and self._kept[file][0] == signature:
                return self._kept[file][1]
            if status.st_size > _SIZE_LIMIT:
                raise FailedPrecondition(f"{file} is larger than {_SIZE_LIMIT} bytes")
            content = auth_file.parse(file.read_bytes(), str(file))
        except FileNotFoundError:
            self._kept.pop(file, None)
            return AuthFile()
        except OSError as error:
            raise FailedPrecondition(
                f"{file} cannot be read: {error.strerror}", hint="the user of the image worker must be able to"
            ) from error
        if len(self._kept) >= _KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept[file] = (signature, content)
        return content


def files_of(folder: Path, namespace: str, name: str) -> Sequence[Path]:
    """Return the files of a namespace for a repository, `registry/path`.

    These are the one for this repository alone, which CRI-O's credential provider writes, and the one for all.
    """
    if not _NAMESPACE.fullmatch(namespace):
        return ()
    return (folder / f"{namespace}-{hashlib.sha256(name.encode()).hexdigest()}.json", folder / f"{namespace}.json")
