"""The `WWW-Authenticate` header and the answers of token servers. Pure.

Challenges are those of RFC 7235, section 4.1; answers those of the distribution project's token specification. Header
values have been checked to have no control characters before they come here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from kernel.formats import strict_json
from services.image.documents.auth_file import TOKEN

_SCHEME = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9-]*)(?:\s+|$)", re.ASCII)
_PARAMETER = re.compile(r'\s*,?\s*([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))', re.ASCII)
_CHALLENGES = 8
_LIFETIME = (60, 24 * 3600)
"""Seconds that a token is kept: at least what the specification grants, at most a day, whatever the server answers."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a registry: an authentication scheme, in lower case, and its parameters."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token and the seconds for which it may be used."""

    value: str
    lifetime: int

    def __repr__(self) -> str:
        return "Token(...)"


class _Answer(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""
    expires_in: int | float = 0


class BadToken(ValueError):
    """The answer of a token server has no usable token. The text is the reason and contains nothing secret."""


def parse(headers: Sequence[str]) -> tuple[Challenge, ...]:
    """Return the challenges of all `WWW-Authenticate` headers; the rest of a malformed header is dropped."""
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
    """Return the token in a token server's answer. BadToken if there is none."""
    try:
        answer = msgspec.convert(strict_json.loads(body), _Answer)
    except strict_json.NotStrictJson as error:
        raise BadToken(f"its answer: {error}") from error
    except msgspec.ValidationError as error:
        raise BadToken("its answer is not an object with a token") from error
    value = answer.token or answer.access_token
    if not TOKEN.fullmatch(value):
        raise BadToken("its answer holds no usable token")
    low, high = _LIFETIME
    return Token(value, int(min(max(answer.expires_in, low), high)))
