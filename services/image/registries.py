"""registries.conf: which endpoints serve a reference, in which order.

Version 2 of containers-registries.conf(5) with its drop-ins: prefix (with `*.` for subdomains), location,
insecure, blocked, mirrors with pull-from-mirror. Short names always are docker.io's, so the search list and the
aliases are not read. `plan` is pure; `Registries` reads the files anew when they have changed.
"""

from __future__ import annotations

import logging
import re
import threading
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from kernel.errors import FailedPrecondition, InvalidInput
from kernel.reference import DEFAULT_REGISTRY, Reference
from kernel.reference import parse as parse_reference
from services.image import address

_LOG = logging.getLogger(__name__)
_HUB = "registry-1.docker.io"
"""Where docker.io is served."""
_SIZE_LIMIT = 4 << 20


class _Mirror(msgspec.Struct, frozen=True, rename="kebab"):
    location: str
    insecure: bool | None = None
    pull_from_mirror: Literal["", "all", "digest-only", "tag-only"] = ""


class _Registry(msgspec.Struct, frozen=True, rename="kebab"):
    prefix: str = ""
    location: str = ""
    insecure: bool | None = None
    blocked: bool = False
    mirror: tuple[_Mirror, ...] = ()
    mirror_by_digest_only: bool = False

    @property
    def scope(self) -> str:
        """The prefix; the location stands in for it."""
        return self.prefix or self.location


class _File(msgspec.Struct, frozen=True):
    registry: tuple[_Registry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One place to ask for an image."""

    registry: str
    """host[:port] as configured; it names the folder of its certificates."""
    path: str
    insecure: bool = False
    """Certificates are not verified, and http is tried where https is not spoken."""
    credentials: bool = True
    """Whether the credentials of the reference's registry may go there."""

    @property
    def host(self) -> str:
        """The host[:port] to connect to."""
        return _HUB if self.registry == DEFAULT_REGISTRY else self.registry


Rules = Mapping[str, _Registry]
"""The `[[registry]]` tables by their prefix."""


def parse(text: str, file: str) -> Rules:
    """Read one registries.conf; FailedPrecondition names file and key."""
    try:
        found = msgspec.convert(tomllib.loads(text), _File)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise FailedPrecondition(f"{file} is not a registries.conf: {error}") from error
    for registry in found.registry:
        if not registry.scope:
            raise FailedPrecondition(f"{file}: a registry has neither prefix nor location")
        for place in (registry.scope, *(mirror.location for mirror in registry.mirror)):
            if not re.fullmatch(r"[!-~]{1,512}", place, re.ASCII) or "://" in place:
                raise FailedPrecondition(f"{file}: {place!r} is not host[:port][/path]")
    return {registry.scope.rstrip("/"): registry for registry in found.registry}


def plan(reference: Reference, rules: Rules) -> tuple[Endpoint, ...]:
    """The endpoints that serve `reference`, in the order to try them: mirrors, then the registry itself.

    FailedPrecondition where the registry is blocked or the configuration leads nowhere.
    """
    prefix = max((scope for scope in rules if _covers(scope, reference)), key=len, default=None)
    if prefix is None:
        return (_endpoint(reference.name, None, reference),)
    rule = rules[prefix]
    if rule.blocked:
        raise FailedPrecondition(f"image {reference}: registry {prefix} is blocked by registries.conf")
    rest = _rest(prefix, reference)
    mirrors = [
        _endpoint(f"{mirror.location.rstrip('/')}{rest}", mirror.insecure, reference, mirror=True)
        for mirror in rule.mirror
        if _serves(mirror, rule, reference)
    ]
    own = f"{rule.location.rstrip('/')}{rest}" if rule.location else reference.name
    return (*mirrors, _endpoint(own, rule.insecure, reference))


def _covers(scope: str, reference: Reference) -> bool:
    """Whether a prefix covers a reference. It ends where a part of the reference ends, never within one."""
    if scope.startswith("*."):
        host, _, path = scope.partition("/")
        below = reference.registry.lower().endswith(host[1:].lower())
        return below and (not path or f"{reference.path}/".startswith(f"{path}/"))
    host, slash, path = scope.partition("/")
    if host.lower() != reference.registry.lower():
        return False
    whole = str(reference).removeprefix(f"{reference.registry}/")
    return not slash or (whole.startswith(path) and whole[len(path) : len(path) + 1] in ("", "/", ":", "@"))


def _rest(prefix: str, reference: Reference) -> str:
    """What of the reference's name follows the prefix, with its leading slash."""
    path = prefix.partition("/")[2]
    for end in (f":{reference.tag}", f"@{reference.digest}"):
        path = path.removesuffix(end)
    return reference.path[len(path) :] if path else f"/{reference.path}"


def _serves(mirror: _Mirror, rule: _Registry, reference: Reference) -> bool:
    by_digest = reference.digest is not None
    match mirror.pull_from_mirror:
        case "digest-only":
            return by_digest
        case "tag-only":
            return not by_digest
        case _:
            return by_digest or not rule.mirror_by_digest_only


def _endpoint(name: str, insecure: bool | None, reference: Reference, *, mirror: bool = False) -> Endpoint:
    """An endpoint of `host[:port]/path`.

    Loopback is insecure unless the file says otherwise, as Docker has it: nobody listens in between. Credentials
    go to a mirror too, as the peers do it, but not to another machine over what anybody could read or pose as.
    """
    host, _, path = name.partition("/")
    host = host.lower()
    try:
        parse_reference(f"{host if ':' in host else f'{host}:1'}/{path}")  # with a port, its first part is the host
        near = address.is_loopback(host)
    except (InvalidInput, address.BadAddress) as error:
        where = f"registries.conf leads to {name!a}, which is no repository" if name != reference.name else str(error)
        raise InvalidInput(f"image {reference}: {where}") from error
    open_to_all = near if insecure is None else insecure
    return Endpoint(
        registry=host,
        path=path,
        insecure=open_to_all,
        credentials=not mirror or near or not open_to_all or host == reference.registry.lower(),
    )


class Registries:
    """The rules in force: `file` and the drop-ins beside it, read again when one of them changed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._seen: Sequence[tuple[str, int, int, int]] | None = None
        self._rules: Rules = {}
        self._error: FailedPrecondition | None = None

    def rules(self) -> Rules:
        """The rules now. A file that went bad is logged once and the last good rules are kept; FailedPrecondition
        where there never were any.
        """
        with self._lock:
            self._refresh()
            if self._error is not None:
                raise FailedPrecondition(self._error.message, hint=self._error.hint)
            return self._rules

    def _refresh(self) -> None:
        first = self._seen is None
        files = [self._file, *sorted(Path(f"{self._file}.d").glob("*.conf"))]
        try:
            stats = [(file, file.stat()) for file in files if file.exists()]
            seen = [(str(file), stat.st_mtime_ns, stat.st_size, stat.st_ino) for file, stat in stats]
            if seen == self._seen:
                return
            self._seen = seen
            rules: dict[str, _Registry] = {}
            for file, stat in stats:
                if stat.st_size > _SIZE_LIMIT:
                    raise FailedPrecondition(f"{file} is larger than {_SIZE_LIMIT} bytes")
                rules |= parse(file.read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            self._refused(FailedPrecondition(f"{self._file} cannot be read: {error}"), first=first)
        except FailedPrecondition as error:
            self._refused(error, first=first)
        else:
            self._rules, self._error = rules, None

    def _refused(self, error: FailedPrecondition, *, first: bool) -> None:
        if first or self._error is not None:
            self._error = error
        else:
            _LOG.warning("keeping the registries as they were: %s", error)
