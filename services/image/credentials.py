"""The node's own credentials: containers-auth.json(5), for pulls whose request brings none. `parse`, `find`: pure.

Files are asked in this order: the pod's namespace's for the image's repository, the namespace's, the node's. In each
`credHelpers` for the registry come first, then `auths` (of several that fit the longest scope decides), then
`credsStore`; the helpers of registries.conf come last. A helper is a program, which this worker cannot start: it is
named, and the front has it asked. Files are read anew when they changed; nothing of their content is in a log or an
error but the scopes' and helpers' names.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from kernel.contracts.oci import Auth
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.formats import strict_json
from kernel.formats.reference import DEFAULT_REGISTRY
from kernel.ids import helper_name
from services.image.registry import challenge

_HUB = frozenset({"index.docker.io", "registry-1.docker.io"})
_HUB_SERVER = "https://index.docker.io/v1/"
"""What Docker Hub is called to helpers."""
_SIZE_LIMIT = 4 << 20
_KEPT = 64
"""Files whose content is remembered."""
_NAMESPACE = re.compile(r"[a-z0-9-]{1,63}", re.ASCII)


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


@dataclass(frozen=True, slots=True)
class Helper:
    """A program that has the credentials for a server."""

    name: str
    """`docker-credential-NAME`."""
    server: str
    certain: bool
    """Whether a file names it for this very registry: without it the pull is not what was meant."""


@dataclass(frozen=True, slots=True)
class AuthFile:
    """One auth.json."""

    auths: Mapping[str, Auth] = field(default_factory=dict)
    """By scope, `host[:port][/path]`; an entry with nothing in it says that the store has it."""
    helpers: Mapping[str, str] = field(default_factory=dict)
    store: str = ""


def parse(data: bytes, file: str) -> AuthFile:
    """Read an auth.json; FailedPrecondition names the file."""
    try:
        found = msgspec.convert(strict_json.loads(data), _File)
        helpers = {_scope(key): helper_name(name) for key, name in found.cred_helpers.items() if name}
        store = helper_name(found.creds_store) if found.creds_store else ""
    except strict_json.NotStrictJson as error:
        raise FailedPrecondition(f"{file} is not an auth.json: it is not JSON") from error
    except msgspec.ValidationError as error:
        raise FailedPrecondition(f"{file} is not an auth.json: {error}") from error
    except InvalidInput as error:
        raise FailedPrecondition(f"{file}: {error.message}") from error
    auths = {_scope(key): _auth(entry, f"{file}: {key[:200]!a}") for key, entry in found.auths.items()}
    return AuthFile(auths, helpers, store)


def find(known: AuthFile, registry: str, path: str) -> Auth | Helper | None:
    """The credentials for a repository, or who has them; None where the file knows of none."""
    host = _host(registry)
    if host in known.helpers:
        return Helper(known.helpers[host], _server(host), certain=True)
    scope, listed = f"{host}/{path}", False
    while scope:
        found = known.auths.get(scope)
        if found is not None and found != Auth():
            return found
        listed = listed or found is not None
        scope = scope.rpartition("/")[0]
    return Helper(known.store, _server(host), certain=listed) if known.store else None


def files_of(folder: Path, namespace: str, name: str) -> Sequence[Path]:
    """The files of a namespace for a repository, `registry/path`: for it alone, as CRI-O's credential provider writes
    them, and for all."""
    if not _NAMESPACE.fullmatch(namespace):
        return ()
    return (folder / f"{namespace}-{hashlib.sha256(name.encode()).hexdigest()}.json", folder / f"{namespace}.json")


def _scope(key: str) -> str:
    """A key as scope. Docker's own file has URLs (`https://index.docker.io/v1/`), whose path says nothing."""
    _, url, rest = key.rpartition("://")
    host, _, path = rest.partition("/")
    path = "" if url or path.rstrip("/") in ("v1", "v2") else path.rstrip("/")
    return f"{_host(host)}/{path}" if path else _host(host)


def _host(host: str) -> str:
    return DEFAULT_REGISTRY if host.lower() in _HUB else host.lower()


def _server(host: str) -> str:
    return _HUB_SERVER if host == DEFAULT_REGISTRY else host


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

    def __init__(self, file: Path | None, folder: Path | None) -> None:
        """`file` is the node's, `folder` has those of namespaces."""
        self._file = file
        self._folder = folder
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[tuple[int, int, int], AuthFile]] = {}

    def of(
        self, registry: str, path: str, *, namespace: str = "", name: str = "", helpers: Sequence[str] = ()
    ) -> Auth | tuple[Helper, ...]:
        """Those for a repository at an endpoint, or the helpers to ask in turn; empty where there are none.

        `name` is the repository that the user asked for, `helpers` those that are asked for every registry.
        FailedPrecondition where a file cannot be used: a pull without credentials might get something else than was
        meant.
        """
        files = [*files_of(self._folder, namespace, name)] if self._folder and namespace else []
        files += [self._file] if self._file else []
        with self._lock:
            for file in files:
                found = find(self._read(file), registry, path)
                if isinstance(found, Auth):
                    return found
                if found is not None:
                    return (found,)
        return tuple(Helper(helper, _server(_host(registry)), certain=False) for helper in helpers)

    def _read(self, file: Path) -> AuthFile:
        try:
            stat = file.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if file in self._known and self._known[file][0] == seen:
                return self._known[file][1]
            if stat.st_size > _SIZE_LIMIT:
                raise FailedPrecondition(f"{file} is larger than {_SIZE_LIMIT} bytes")
            found = parse(file.read_bytes(), str(file))
        except FileNotFoundError:
            self._known.pop(file, None)
            return AuthFile()
        except OSError as error:
            raise FailedPrecondition(
                f"{file} cannot be read: {error.strerror}", hint="the user of the image worker must be able to"
            ) from error
        if len(self._known) >= _KEPT:
            self._known.pop(next(iter(self._known)))
        self._known[file] = (seen, found)
        return found
