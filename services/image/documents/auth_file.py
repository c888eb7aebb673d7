"""containers-auth.json(5): the credentials for registries, and the helpers that have them. Pure.

Within a file `credHelpers` for the registry come first, then `auths` (the longest scope that fits decides), then
`credsStore`. Nothing of a file's content is in an error but the names of scopes and helpers.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from kernel.contracts.oci import Auth
from kernel.errors import FailedPrecondition, InvalidInput
from kernel.formats import strict_json
from kernel.formats.reference import DEFAULT_REGISTRY
from kernel.ids import helper_name

_HUB = frozenset({"index.docker.io", "registry-1.docker.io"})
_HUB_SERVER = "https://index.docker.io/v1/"
"""The name under which helpers know Docker Hub."""
_LONGEST = 65536
TOKEN = re.compile(r"[!-~]{1,65536}", re.ASCII)
"""A bearer token that is safe in a header."""


class _AuthEntry(msgspec.Struct, frozen=True):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class _AuthJson(msgspec.Struct, frozen=True, rename="camel"):
    auths: dict[str, _AuthEntry] = {}
    cred_helpers: dict[str, str] = {}
    creds_store: str = ""


@dataclass(frozen=True, slots=True)
class Helper:
    """A program that may have the credentials for a server."""

    name: str
    """The NAME in `docker-credential-NAME`."""
    server: str
    """The server by the name that the program knows."""
    certain: bool
    """Whether a file names it for this very registry. The pull must then not go on without its credentials."""


@dataclass(frozen=True, slots=True)
class AuthFile:
    """One auth.json."""

    auths: Mapping[str, Auth] = field(default_factory=dict)
    """Credentials by their scope, `host[:port][/path]`. An empty entry means that the store has them."""
    helpers: Mapping[str, str] = field(default_factory=dict)
    """Names of helpers by registry."""
    store: str = ""
    """The name of the helper for all other registries; empty if there is none."""


def parse(data: bytes, file: str) -> AuthFile:
    """Return the content of an auth.json. FailedPrecondition names the file."""
    try:
        found = msgspec.convert(strict_json.loads(data), _AuthJson)
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


def find(content: AuthFile, registry: str, path: str) -> Auth | Helper | None:
    """Return the credentials for a repository or the helper that has them; None if the file names neither."""
    host = _host(registry)
    if host in content.helpers:
        return Helper(content.helpers[host], server_of(host), certain=True)
    scope, listed = f"{host}/{path}", False
    while scope:
        found = content.auths.get(scope)
        if found is not None and found != Auth():
            return found
        listed = listed or found is not None
        scope = scope.rpartition("/")[0]
    return Helper(content.store, server_of(host), certain=listed) if content.store else None


def check(auth: Auth | None) -> Auth:
    """Return credentials that are safe in a header. InvalidInput names the field, never its content.

    By Docker's convention the user `<token>` has an identity token for a password; it is resolved here.
    """
    if auth is None:
        return Auth()
    for name in ("username", "password", "identity_token", "registry_token"):
        value: str = getattr(auth, name)
        if len(value) > _LONGEST or any(ord(character) < 32 or ord(character) == 127 for character in value):
            raise InvalidInput(f"auth.{name}: too long or has control characters")
    if ":" in auth.username:
        raise InvalidInput("auth.username: has a colon")
    if auth.registry_token and not TOKEN.fullmatch(auth.registry_token):
        raise InvalidInput("auth.registry_token: has characters that no token has")
    if auth.username == "<token>" and not auth.identity_token:
        return Auth(identity_token=auth.password, registry_token=auth.registry_token)
    return auth


def server_of(registry: str) -> str:
    """Return the name under which helpers know a registry."""
    host = _host(registry)
    return _HUB_SERVER if host == DEFAULT_REGISTRY else host


def _scope(key: str) -> str:
    """Return the scope of a key. Docker's own file has URLs (`https://index.docker.io/v1/`), whose path is dropped."""
    _, url, rest = key.rpartition("://")
    host, _, path = rest.partition("/")
    path = "" if url or path.rstrip("/") in ("v1", "v2") else path.rstrip("/")
    return f"{_host(host)}/{path}" if path else _host(host)


def _host(host: str) -> str:
    return DEFAULT_REGISTRY if host.lower() in _HUB else host.lower()


def _auth(entry: _AuthEntry, what: str) -> Auth:
    username, password = entry.username, entry.password
    try:
        if entry.auth:
            decoded = base64.b64decode(entry.auth, validate=True).decode().rstrip("\0")
            username, colon, password = decoded.partition(":")
            if not colon:
                raise FailedPrecondition(f"{what}: auth is not base64 of user:password")
        return check(
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
