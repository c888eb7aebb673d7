"""The name that a signature must contain to count for an image: `signedIdentity` of containers-policy.json(5). Pure.

A signature is made over a digest and a name. `verdict` compares the digest; this compares the name. Without it a
signature of an old or of another image could be presented under any name.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from kernel.errors import InvalidInput
from kernel.formats import reference
from kernel.formats.reference import Reference
from kernel.ids import Digest


class _Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", rename="camel"):
    """One form of `signedIdentity`."""


class MatchExact(_Rule, frozen=True, tag="matchExact"):
    """The same name and tag, or the same name and digest."""


class MatchRepoDigestOrExact(_Rule, frozen=True, tag="matchRepoDigestOrExact"):
    """The same name and tag; of an image that is named by digest, the same repository."""


class MatchRepository(_Rule, frozen=True, tag="matchRepository"):
    """The same repository."""


class ExactReference(_Rule, frozen=True, kw_only=True, tag="exactReference"):
    """A name and tag, whatever the image is called here."""

    docker_reference: str


class ExactRepository(_Rule, frozen=True, kw_only=True, tag="exactRepository"):
    """A repository, whatever the image is called here."""

    docker_repository: str


class RemapIdentity(_Rule, frozen=True, kw_only=True, tag="remapIdentity"):
    """The same as MatchRepoDigestOrExact, after the beginning of the image's name is replaced."""

    prefix: str
    signed_prefix: str


Rule = MatchExact | MatchRepoDigestOrExact | MatchRepository | ExactReference | ExactRepository | RemapIdentity
DEFAULT = MatchRepoDigestOrExact()


@dataclass(frozen=True, slots=True)
class Name:
    """A name as written, without a default tag."""

    repository: str
    tag: str = ""
    digest: Digest | None = None

    @property
    def whole(self) -> bool:
        """Return whether it names one image, and not all of a repository."""
        return bool(self.tag or self.digest)


def name_of(image: Reference) -> Name:
    """Return the name of an image. If it has a digest, that decides, and a tag beside it does not count."""
    return Name(image.name, "" if image.digest else image.tag, image.digest)


def read(text: str) -> Name:
    """Read a name from a policy or a signature; InvalidInput if it is none."""
    found = reference.parse(text)
    tagged = ":" in text.partition("@")[0].rpartition("/")[2]
    return Name(found.name, found.tag if tagged else "", found.digest)


def check(rule: Rule, where: str) -> None:
    """Raise InvalidInput if a rule of a policy has a name of the wrong form."""
    match rule:
        case ExactReference() if not read(rule.docker_reference).whole:
            raise InvalidInput(f"{where}.dockerReference: {rule.docker_reference!r} has neither tag nor digest")
        case ExactRepository() if read(rule.docker_repository).whole:
            raise InvalidInput(f"{where}.dockerRepository: {rule.docker_repository!r} has a tag or a digest")
        case RemapIdentity():
            for key, prefix in (("prefix", rule.prefix), ("signedPrefix", rule.signed_prefix)):
                if read(f"{prefix}/x" if "/" not in prefix else prefix).whole or prefix.endswith("/"):
                    raise InvalidInput(f"{where}.{key}: {prefix!r} is neither host[:port] nor host[:port]/path")
        case _:
            pass


def matches(rule: Rule, image: Reference, claimed: str) -> bool:
    """Return whether a signature that is made for the name `claimed` counts for `image` by the rule."""
    try:
        signed = read(claimed)
    except InvalidInput:
        return False
    own = name_of(image)
    match rule:
        case MatchExact():
            return own.whole and own == signed
        case MatchRepoDigestOrExact():
            return _repo_digest_or_exact(own, signed)
        case MatchRepository():
            return own.repository == signed.repository
        case ExactReference():
            return signed.whole and signed == read(rule.docker_reference)
        case ExactRepository():
            return signed.repository == read(rule.docker_repository).repository
        case RemapIdentity():
            return _repo_digest_or_exact(_remapped(own, rule), signed)


def _repo_digest_or_exact(own: Name, signed: Name) -> bool:
    if not signed.whole:
        return False
    return own.repository == signed.repository if own.digest else own == signed


def _remapped(own: Name, rule: RemapIdentity) -> Name:
    if own.repository != rule.prefix and not own.repository.startswith(f"{rule.prefix}/"):
        return own
    return Name(rule.signed_prefix + own.repository[len(rule.prefix) :], own.tag, own.digest)
