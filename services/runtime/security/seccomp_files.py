"""Reads seccomp profiles from the host: those that requests name, and the files that the configuration names.

Run by the runtime worker, in a throw-away thread. Rules kept: a profile counts only if no user but root can write it,
or if it is below `runtime.seccomp_root`, which a name from a request never leaves, not by `..` and not by a link; only
a plain file is read, and no more of it than a profile may have.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kernel.errors import FailedPrecondition, InvalidInput
from kernel.host import files, syscalls
from services.runtime.spec.security_context import seccomp_profile
from services.runtime.spec.security_context.seccomp_profile import SeccompProfile

HOST_DEFAULT = Path("/usr/share/containers/seccomp.json")
"""The profile that the distribution has for containers (containers/common)."""
BUILTIN = Path(__file__).with_name("seccomp_default.json")
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY


def localhost(root: str, ref: str, field: str) -> SeccompProfile:
    """Return the profile that a request names as Localhost; InvalidInput names the field.

    With a `root`, `ref` is a file below that folder, by its whole path or its path from there, and no link leads to
    it. Without one it is the whole path of any file that root owns and no other user can write: the kubelet, whose
    folder of profiles may be anywhere, has checked that a pod names nothing outside that folder.
    """
    what = f"{field}: {ref[:256]!r}"
    fd = _open_below(Path(root), ref, what) if root else _open_anywhere(ref, what)
    return seccomp_profile.parse(_content(fd, what), what)


def _open_below(root: Path, ref: str, what: str) -> int:
    below = os.path.relpath(os.path.normpath(ref), root) if ref.startswith("/") else ref
    if not below or below == "." or ".." in below.split("/") or "\0" in below:
        raise InvalidInput(f"{what} is not a file below {root}")
    try:
        top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInput(f"{what}: the folder {root}: {error.strerror}") from error
    try:
        return syscalls.openat2(top, below, _FLAGS, syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS)
    except OSError as error:
        raise InvalidInput(f"{what}: {error.strerror}") from error
    finally:
        os.close(top)


def _open_anywhere(ref: str, what: str) -> int:
    if not ref.startswith("/") or "\0" in ref:
        raise InvalidInput(f"{what} is not the whole path of a file")
    try:
        return files.open_trusted(Path(ref), follow_link=True)
    except files.NotTrusted as error:
        raise InvalidInput(f"{what}: {error.reason}") from error
    except OSError as error:
        raise InvalidInput(f"{what}: {error.strerror}") from error


class SeccompFiles:
    """The profiles that the configuration names; each is read again only if its file has changed."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[tuple[int, int, int], SeccompProfile]] = {}

    def default(self, configured: str) -> SeccompProfile:
        """Return the RuntimeDefault profile: that of the configuration, or of the distribution, or the built-in one."""
        if configured == "builtin":
            return self.get(BUILTIN)
        if configured:
            return self.get(Path(configured))
        return self.get(HOST_DEFAULT if HOST_DEFAULT.is_file() else BUILTIN)

    def get(self, path: Path) -> SeccompProfile:
        """Return the profile in a file; FailedPrecondition if it is missing or wrong, or others than root can write it.

        The built-in one may belong to any user: it is as trusted as crisp's code.
        """
        what = f"seccomp profile {path}"
        try:
            fd = os.open(path, _FLAGS | os.O_CLOEXEC) if path == BUILTIN else files.open_trusted(path, follow_link=True)
        except files.NotTrusted as error:
            raise _wrong(f"{what}: {error.reason}") from error
        except OSError as error:
            raise FailedPrecondition(f"{what}: {error.strerror}") from error
        status = os.fstat(fd)
        key = (status.st_ino, status.st_ctime_ns, status.st_size)
        known = self._read.get(path)
        if known is not None and known[0] == key:
            os.close(fd)
            return known[1]
        try:
            profile = seccomp_profile.parse(_content(fd, what), what)
        except InvalidInput as error:
            raise _wrong(error.message) from error
        self._read[path] = (key, profile)
        return profile


def _wrong(message: str) -> FailedPrecondition:
    return FailedPrecondition(message, hint="mend it, or take it out of the configuration")


def _content(fd: int, what: str) -> bytes:
    """Return a plain file's content, and close the descriptor."""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidInput(f"{what}: is not a plain file")
        content = b""
        limit = seccomp_profile.LIMIT
        while len(content) <= limit and (part := os.read(fd, limit + 1 - len(content))):
            content += part
    finally:
        os.close(fd)
    if len(content) > limit:
        raise InvalidInput(f"{what}: is larger than {limit} bytes")
    return content
