"""The `WWW-Authenticate` header and the answers of token servers. Pure.

RFC 7235 challenges, and the token specification of the distribution project. Header values are checked before
they come here to have no control characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from kernel.contracts.oci import Auth
from kernel.errors import InvalidInput
from kernel.formats import strict_json

_TOKEN68 = re.compile(r"[!-~]{1,65536}", re.ASCII)
_SCHEME = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9-]*)(?:\s+|$)", re.ASCII)
_PARAMETER = re.compile(r'\s*,?\s*([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))', re.ASCII)
_CHALLENGES = 8
_LIFETIME = (60, 24 * 3600)
"""Seconds that a token is kept: what the specification grants at least, and a day at most, whatever is said."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a registry wants to see: a scheme, lower case, and its parameters."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token and the seconds that it may be used."""

    value: str
    lifetime: int

    def __repr__(self) -> str:
        return "Token(...)"


class _Answer(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""
    expires_in: int | float = 0


class BadToken(ValueError):
    """A token server's answer that is none; the text says why and repeats nothing secret."""


def parse(headers: Sequence[str]) -> tuple[Challenge, ...]:
    """The challenges of all `WWW-Authenticate` headers, in their order; what cannot be read ends its header."""
    found: list[Challenge] = []
    for header in headers:
        at = 0
        while len(found) < _CHALLENGES and (scheme := _SCHEME.match(header, at)):
            at = scheme.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(header, at):
                name, quoted, plain = parameter.groups()
                parameters.setdefault(name.lower(), plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
                at = parameter.end()
            found.append(Challenge(scheme.group(1).lower(), parameters))
    return tuple(found)


def token(body: bytes) -> Token:
    """The token in a token server's answer."""
    try:
        answer = msgspec.convert(strict_json.loads(body), _Answer)
    except strict_json.NotStrictJson as error:
        raise BadToken(f"its answer: {error}") from error
    except msgspec.ValidationError as error:
        raise BadToken("its answer has not the form of one") from error
    value = answer.token or answer.access_token
    if not _TOKEN68.fullmatch(value):
        raise BadToken("its answer holds no usable token")
    low, high = _LIFETIME
    return Token(value, int(min(max(answer.expires_in, low), high)))


def check_credentials(auth: Auth | None) -> Auth:
    """Credentials that are safe to put into a header. InvalidInput names the field, never its content.

    Docker's convention of the user `<token>` with an identity token for a password is resolved here.
    """
    if auth is None:
        return Auth()
    for name in ("username", "password", "identity_token", "registry_token"):
        value: str = getattr(auth, name)
        if len(value) > 65536 or any(ord(character) < 32 or ord(character) == 127 for character in value):
            raise InvalidInput(f"auth.{name}: too long or has control characters")
    if ":" in auth.username:
        raise InvalidInput("auth.username: has a colon")
    if auth.registry_token and not _TOKEN68.fullmatch(auth.registry_token):
        raise InvalidInput("auth.registry_token: has characters that no token has")
    if auth.username == "<token>" and not auth.identity_token:
        return Auth(identity_token=auth.password, registry_token=auth.registry_token)
    return auth
