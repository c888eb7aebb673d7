"""The endpoints that serve a reference, in the order of registries.conf. Pure.

Of the tables whose prefix covers the reference the one with the longest prefix applies. It blocks the reference, or
names its mirrors, as far as they are for references of this kind, and then its own location; each is followed by the
rest of the name after the prefix (containers-registries.conf(5)).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kernel.errors import FailedPrecondition, InvalidInput
from kernel.formats.reference import DEFAULT_REGISTRY, Reference
from kernel.formats.reference import parse as parse_reference
from kernel.formats.registries_conf import Mirror, Registry
from services.image.registry import address

_HUB = "registry-1.docker.io"
"""The host that serves docker.io."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A repository at one registry or mirror."""

    registry: str
    """`host[:port]` as configured; the folder of its certificates has this name."""
    path: str
    insecure: bool = False
    """Whether certificates are not verified, and http is tried if https fails."""
    credentials: bool = True
    """Whether the credentials of the reference's registry may be sent there."""

    @property
    def host(self) -> str:
        """The `host[:port]` to connect to."""
        return _HUB if self.registry == DEFAULT_REGISTRY else self.registry


Rules = Mapping[str, Registry]
"""The `[[registry]]` tables by their prefix."""


def plan(reference: Reference, rules: Rules) -> tuple[Endpoint, ...]:
    """Return the endpoints that serve `reference` in the order to try them: mirrors, then the registry itself.

    FailedPrecondition if the registry is blocked, InvalidInput if the configuration leads to no repository.
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
    """Return whether a prefix covers a reference: it must end at the end of a part of the reference."""
    if scope.startswith("*."):
        host, _, path = scope.partition("/")
        end, registry = host[1:].lower(), reference.registry.lower()
        # a registry with a port is still in its domain: otherwise a port would lift a block
        below = registry.endswith(end) or registry.rpartition(":")[0].endswith(end)
        return below and (not path or f"{reference.path}/".startswith(f"{path}/"))
    host, slash, path = scope.partition("/")
    if host.lower() != reference.registry.lower():
        return False
    whole = str(reference).removeprefix(f"{reference.registry}/")
    return not slash or (whole.startswith(path) and whole[len(path) : len(path) + 1] in ("", "/", ":", "@"))


def _rest(prefix: str, reference: Reference) -> str:
    """Return the rest of the reference's name after the prefix, with its leading slash."""
    path = prefix.partition("/")[2]
    for end in (f":{reference.tag}", f"@{reference.digest}"):
        path = path.removesuffix(end)
    return reference.path[len(path) :] if path else f"/{reference.path}"


def _serves(mirror: Mirror, rule: Registry, reference: Reference) -> bool:
    by_digest = reference.digest is not None
    match mirror.pull_from_mirror:
        case "digest-only":
            return by_digest
        case "tag-only":
            return not by_digest
        case _:
            return by_digest or not rule.mirror_by_digest_only


def _endpoint(name: str, insecure: bool | None, reference: Reference, *, mirror: bool = False) -> Endpoint:
    """Return the endpoint of `host[:port]/path`.

    A registry on loopback is insecure unless the file sets `insecure`, as with Docker: no other machine can listen
    in between. Credentials are sent to a mirror too, as containers/image does, but not to another machine over a
    connection that anybody could read or impersonate.
    """
    host, _, path = name.partition("/")
    host = host.lower()
    try:
        parse_reference(
            f"{host if ':' in host else f'{host}:1'}/{path}"
        )  # with a port, its first part is a host for certain
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
