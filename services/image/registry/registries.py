"""Which endpoints serve a reference, in which order, as registries.conf has it. Pure.

Of the tables whose prefix covers the reference the longest one counts: blocked, or its mirrors in their order as far as
they are for references of this kind, then its own location, each with what of the name follows the prefix.
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
"""Where docker.io is served."""


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


Rules = Mapping[str, Registry]
"""The `[[registry]]` tables by their prefix."""


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
        end, registry = host[1:].lower(), reference.registry.lower()
        # a port of the registry's does not take it out of its domain: what is blocked must stay so
        below = registry.endswith(end) or registry.rpartition(":")[0].endswith(end)
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
