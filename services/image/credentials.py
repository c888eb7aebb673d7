"""The node's own credentials: containers-auth.json(5), for pulls whose request brings none. `parse`, `find`: pure.

`auths` are read, by registry or with a path below it; of several that fit the longest decides. Credential helpers
are programs, which this worker cannot start: they are named in the log once and not asked. The file is read again
when it changed; nothing of its content is in a log or an error but the scopes' names.
"""

from __future__ import annotations

import base64
import binascii
import logging
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec

from kernel import strict_json
from kernel.contracts.oci import Auth
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.reference import DEFAULT_REGISTRY
from services.image import challenge

_LOG = logging.getLogger(__name__)
_HUB = frozenset({"index.docker.io", "registry-1.docker.io"})
_SIZE_LIMIT = 4 << 20


class _Entry(msgspec.Struct, frozen=True):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class _File(msgspec.Struct, frozen=True, rename="camel"):
    auths: dict[str, _Entry] = {}
    cred_helpers: dict[str, str] = {}
    creds_store: str = ""


def parse(data: bytes, file: str) -> dict[str, Auth]:
    """The credentials of an auth.json by their scope, `host[:port][/path]`; FailedPrecondition names the file."""
    try:
        found = msgspec.convert(strict_json.loads(data), _File)
    except strict_json.NotStrictJson as error:
        raise FailedPrecondition(f"{file} is not an auth.json: it is not JSON") from error
    except msgspec.ValidationError as error:
        raise FailedPrecondition(f"{file} is not an auth.json: {error}") from error
    if found.cred_helpers or found.creds_store:
        _LOG.warning("%s names credential helpers: they are not asked, put the credentials into auths", file)
    return {_scope(key): _auth(entry, f"{file}: {key[:200]!a}") for key, entry in found.auths.items()}


def find(known: Mapping[str, Auth], registry: str, path: str) -> Auth:
    """The credentials for a repository: those of the longest scope around it; empty where there are none."""
    scope = f"{_host(registry)}/{path}"
    while scope:
        if scope in known:
            return known[scope]
        scope = scope.rpartition("/")[0]
    return Auth()


def _scope(key: str) -> str:
    """A key as scope. Docker's own file has URLs (`https://index.docker.io/v1/`), whose path says nothing."""
    _, url, rest = key.rpartition("://")
    host, _, path = rest.partition("/")
    path = "" if url or path.rstrip("/") in ("v1", "v2") else path.rstrip("/")
    return f"{_host(host)}/{path}" if path else _host(host)


def _host(host: str) -> str:
    return DEFAULT_REGISTRY if host.lower() in _HUB else host.lower()


def _auth(entry: _Entry, what: str) -> Auth:
    username, password = entry.username, entry.password
    try:
        if entry.auth:
            decoded = base64.b64decode(entry.auth, validate=True).decode().rstrip("\0")
            username, colon, password = decoded.partition(":")
            if not colon:
                raise FailedPrecondition(f"{what}: auth is not base64 of user:password")
        return challenge.check_credentials(
            Auth(
                username=username,
                password=password,
                identity_token=entry.identitytoken,
                registry_token=entry.registrytoken,
            )
        )
    except (binascii.Error, UnicodeDecodeError) as error:
        raise FailedPrecondition(f"{what}: auth is not base64 of user:password") from error
    except InvalidInput as error:
        raise FailedPrecondition(f"{what}: {error.message}") from error


class Credentials:
    """The credentials in force."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._known: dict[str, Auth] = {}

    def of(self, registry: str, path: str) -> Auth:
        """Those for a repository. FailedPrecondition where the file cannot be used: a pull without credentials might
        get something else than was meant.
        """
        if self._file is None:
            return Auth()
        with self._lock:
            self._refresh(self._file)
            return find(self._known, registry, path)

    def _refresh(self, file: Path) -> None:
        try:
            stat = file.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen:
                return
            if stat.st_size > _SIZE_LIMIT:
                raise FailedPrecondition(f"{file} is larger than {_SIZE_LIMIT} bytes")
            self._known = parse(file.read_bytes(), str(file))
            self._seen = seen
        except FileNotFoundError:
            self._known, self._seen = {}, None
        except OSError as error:
            raise FailedPrecondition(
                f"{file} cannot be read: {error.strerror}", hint="the user of the image worker must be able to"
            ) from error
