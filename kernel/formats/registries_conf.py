"""containers-registries.conf(5), version 2, with its drop-ins: read, checked, merged as containers/image does.

The image worker takes from it which endpoints serve an image, the front what a short name stands for: both read the
administrator's files by themselves, so neither has to believe the other. `parse` and `merge` are pure; `Reader` reads
the files anew when one of them has changed, and keeps the last good ones where a change is wrong.
"""

from __future__ import annotations

import logging
import re
import threading
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from kernel.errors import FailedPrecondition, InvalidInput
from kernel.formats import reference
from kernel.ids import helper_name

_LOG = logging.getLogger(__name__)
_SIZE_LIMIT = 4 << 20
_PLACE = re.compile(r"[!-~]{1,512}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9.\[\]:-]{1,255}", re.ASCII)

AUTH_FILE = "containers-auth.json"
"""Among the credential helpers it means the auth files."""
Mode = Literal["enforcing", "permissive", "disabled"]
PullFrom = Literal["", "all", "digest-only", "tag-only"]


class Mirror(msgspec.Struct, frozen=True, rename="kebab"):
    """A place that has copies of a registry's images."""

    location: str = ""
    insecure: bool | None = None
    pull_from_mirror: PullFrom = ""


class Registry(msgspec.Struct, frozen=True, rename="kebab"):
    """A `[[registry]]` table."""

    prefix: str = ""
    location: str = ""
    insecure: bool | None = None
    blocked: bool = False
    mirror: tuple[Mirror, ...] = ()
    mirror_by_digest_only: bool = False
    pull_from_mirror: str = ""

    @property
    def scope(self) -> str:
        """The prefix; the location stands in for it."""
        return (self.prefix or self.location).rstrip("/")


class File(msgspec.Struct, frozen=True, rename="kebab"):
    """One file. None is a key that is not there: a drop-in then leaves what files before it said."""

    registry: tuple[Registry, ...] = ()
    unqualified_search_registries: tuple[str, ...] | None = None
    short_name_mode: Mode | None = None
    credential_helpers: tuple[str, ...] | None = None
    aliases: dict[str, str] = {}


class Conf(msgspec.Struct, frozen=True):
    """All files together."""

    registries: Mapping[str, Registry] = {}
    """The tables by their prefix."""
    search: tuple[str, ...] | None = None
    """Where short names are looked for; None where no file says."""
    mode: Mode = "permissive"
    helpers: tuple[str, ...] = ()
    """Credential helpers, which are asked in this order."""
    aliases: Mapping[str, str] = {}
    """Repositories by the short name that stands for them."""


def parse(text: str, file: str) -> File:
    """Read one file; FailedPrecondition names file and key."""
    try:
        data = tomllib.loads(text)
        if "registries" in data:
            raise FailedPrecondition(
                f"{file} is of version 1, which is not read",
                hint="write [[registry]] tables and unqualified-search-registries, see containers-registries.conf(5)",
            )
        found = msgspec.convert(data, File)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise FailedPrecondition(f"{file} is not a registries.conf: {error}") from error
    for registry in found.registry:
        _check_registry(registry, file)
    _check_conflicts(found.registry, file)
    for host in found.unqualified_search_registries or ():
        if not _HOST.fullmatch(host):
            raise FailedPrecondition(f"{file}: unqualified-search-registries: {host[:100]!a} is not host[:port]")
    for helper in found.credential_helpers or ():
        try:
            helper_name(helper)
        except InvalidInput as error:
            raise FailedPrecondition(f"{file}: credential-helpers: {error.message}") from error
    for name, target in found.aliases.items():
        _check_alias(name, target, file)
    return found


def merge(files: Sequence[File]) -> Conf:
    """What the files say together, each but the first a drop-in over those before it."""
    registries: dict[str, Registry] = {}
    search: tuple[str, ...] | None = None
    mode: Mode = "permissive"
    helpers: tuple[str, ...] = ()
    aliases: dict[str, str] = {}
    for file in files:
        # of equal prefixes in one file the first counts, as in containers/image
        registries |= {registry.scope: registry for registry in reversed(file.registry)}
        search = search if file.unqualified_search_registries is None else file.unqualified_search_registries
        mode = file.short_name_mode or mode
        helpers = helpers if file.credential_helpers is None else file.credential_helpers
        aliases |= file.aliases
    return Conf(registries, search, mode, helpers, {name: target for name, target in aliases.items() if target})


def _check_registry(registry: Registry, file: str) -> None:
    scope = registry.scope
    if not scope:
        raise FailedPrecondition(f"{file}: a registry has neither prefix nor location")
    if not registry.location and not scope.startswith("*."):
        raise FailedPrecondition(f"{file}: registry {scope[:100]!a} has no location", hint="only *.DOMAIN needs none")
    if registry.pull_from_mirror:
        raise FailedPrecondition(f"{file}: registry {scope[:100]!a}: pull-from-mirror belongs to a mirror")
    for mirror in registry.mirror:
        if not mirror.location:
            raise FailedPrecondition(f"{file}: registry {scope[:100]!a}: a mirror has no location")
        if registry.mirror_by_digest_only and mirror.pull_from_mirror:
            raise FailedPrecondition(
                f"{file}: registry {scope[:100]!a} has mirror-by-digest-only, its mirror {mirror.location[:100]!a} "
                "pull-from-mirror: only one of both can be"
            )
    places = (scope.removeprefix("*."), registry.location, *(mirror.location for mirror in registry.mirror))
    for place in places:
        if place and (not _PLACE.fullmatch(place) or "://" in place or "*" in place):
            raise FailedPrecondition(f"{file}: {place[:200]!a} is not host[:port][/path]")


def _check_conflicts(registries: Sequence[Registry], file: str) -> None:
    first: dict[str, Registry] = {}
    for registry in registries:
        same = first.setdefault(registry.scope, registry)
        if (same.insecure, same.blocked) != (registry.insecure, registry.blocked):
            raise FailedPrecondition(f"{file}: {registry.scope!a} is there twice, with other insecure or blocked")


def _check_alias(name: str, target: str, file: str) -> None:
    """`name = "host/path"`, neither with tag or digest; an empty one takes an alias of a file before away."""
    try:
        if not reference.is_short(name) or reference.repository(name) != name:
            raise InvalidInput("it is no short name without a tag")
        reference.parse(name)
        if target and (reference.is_short(target) or reference.repository(target) != target):
            raise InvalidInput(f"{target[:200]!a} is not host/path")
        if target:
            reference.parse(target)
    except InvalidInput as error:
        raise FailedPrecondition(f"{file}: alias {name[:100]!a}: {error.message}") from error


class Reader:
    """The files in force: the main one and the drop-ins beside it. For threads: it looks at files each time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._seen: Sequence[tuple[str, int, int, int]] | None = None
        self._conf = Conf()
        self._error: FailedPrecondition | None = None

    def conf(self) -> Conf:
        """What the files say now. A file that went bad is logged once and the last good ones stay in force;
        FailedPrecondition where there never were any.
        """
        with self._lock:
            self._refresh()
            if self._error is not None:
                raise FailedPrecondition(self._error.message, hint=self._error.hint)
            return self._conf

    def _refresh(self) -> None:
        first = self._seen is None
        files = [self._file, *sorted(Path(f"{self._file}.d").glob("*.conf"))]
        try:
            stats = [(file, file.stat()) for file in files if file.exists()]
            seen = [(str(file), stat.st_mtime_ns, stat.st_size, stat.st_ino) for file, stat in stats]
            if seen == self._seen:
                return
            self._seen = seen
            found = []
            for file, stat in stats:
                if stat.st_size > _SIZE_LIMIT:
                    raise FailedPrecondition(f"{file} is larger than {_SIZE_LIMIT} bytes")
                found.append(parse(file.read_text(encoding="utf-8"), str(file)))
        except (OSError, UnicodeDecodeError) as error:
            hint = "where its folder is new, restart the workers front and image"  # to Landlock it is another
            self._refused(FailedPrecondition(f"{self._file} cannot be read: {error}", hint=hint), first=first)
        except FailedPrecondition as error:
            self._refused(error, first=first)
        else:
            self._conf, self._error = merge(found), None

    def _refused(self, error: FailedPrecondition, *, first: bool) -> None:
        if first or self._error is not None:
            self._error = error
        else:
            _LOG.warning("keeping the registries as they were: %s", error)
