"""containers-registries.conf(5), version 2, with its drop-ins: parsed, checked, merged as containers/image does. Pure.

`kernel.config.registries_reader` reads the files. The image worker takes from them which endpoints serve an image, the
front which image a short name stands for.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from kernel.errors import FailedPrecondition, InvalidInput
from kernel.formats import reference
from kernel.ids import helper_name

_PLACE = re.compile(r"[!-~]{1,512}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9.\[\]:-]{1,255}", re.ASCII)

AUTH_FILE = "containers-auth.json"
"""The entry in the list of credential helpers that stands for the auth files."""
Mode = Literal["enforcing", "permissive", "disabled"]
PullFrom = Literal["", "all", "digest-only", "tag-only"]


class Mirror(msgspec.Struct, frozen=True, rename="kebab"):
    """A registry that has copies of another registry's images."""

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
        """The prefix; the location if there is none."""
        return (self.prefix or self.location).rstrip("/")


class File(msgspec.Struct, frozen=True, rename="kebab"):
    """The content of one file. None is a key that is absent: a drop-in then leaves the value of the files before it."""

    registry: tuple[Registry, ...] = ()
    unqualified_search_registries: tuple[str, ...] | None = None
    short_name_mode: Mode | None = None
    credential_helpers: tuple[str, ...] | None = None
    aliases: dict[str, str] = {}


class Conf(msgspec.Struct, frozen=True):
    """The content of all files together."""

    registries: Mapping[str, Registry] = {}
    """The `[[registry]]` tables by their prefix."""
    search: tuple[str, ...] | None = None
    """The registries in which short names are searched; None if no file has the key."""
    mode: Mode = "permissive"
    helpers: tuple[str, ...] = ()
    """Names of credential helpers, in the order in which they are run."""
    aliases: Mapping[str, str] = {}
    """Repositories by the short name that stands for each."""


def parse(text: str, file: str) -> File:
    """Parse one file. FailedPrecondition names the file and the key."""
    try:
        data = tomllib.loads(text)
        if "registries" in data:
            raise FailedPrecondition(
                f"{file} is of version 1, which is not supported",
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
    """Return the content of all files together; each but the first is a drop-in that overrides those before it."""
    registries: dict[str, Registry] = {}
    search: tuple[str, ...] | None = None
    mode: Mode = "permissive"
    helpers: tuple[str, ...] = ()
    aliases: dict[str, str] = {}
    for file in files:
        # If one file has several tables with equal prefixes, the first one applies, as in containers/image.
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
                "pull-from-mirror: only one of the two may be set"
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
            raise FailedPrecondition(f"{file}: {registry.scope!a} is there twice, with different insecure or blocked")


def _check_alias(name: str, target: str, file: str) -> None:
    """Check `name = "host/path"`, neither with tag or digest. An empty target removes the alias of an earlier file."""
    try:
        if not reference.is_short(name) or reference.repository(name) != name:
            raise InvalidInput("it is not a short name, or has a tag")
        reference.parse(name)
        if target and (reference.is_short(target) or reference.repository(target) != target):
            raise InvalidInput(f"{target[:200]!a} is not host/path")
        if target:
            reference.parse(target)
    except InvalidInput as error:
        raise FailedPrecondition(f"{file}: alias {name[:100]!a}: {error.message}") from error
