"""Image references: the text a user wrote, checked against the grammar and normalised. Pure.

The grammar is that of distribution/reference: `[host[:port]/]path[:tag][@digest]`. A name without a registry is
of docker.io, one without a namespace there is below `library`, one with neither tag nor digest means `latest`.
Nothing here reaches a path or a URL unless it passed one of the expressions below.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kernel.errors import InvalidInput
from kernel.ids import Digest, digest

DEFAULT_REGISTRY = "docker.io"
_DEFAULT_NAMESPACE = "library"
_DEFAULT_TAG = "latest"
_NAME_LIMIT = 255

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:.]{{2,45}}\])(?::([0-9]{{1,5}}))?", re.ASCII)
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_IMAGE_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An image's place: registry (`host[:port]`), repository path, and tag or digest or both."""

    registry: str
    path: str
    tag: str = ""
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """The repository with its registry."""
        return f"{self.registry}/{self.path}"

    @property
    def target(self) -> str:
        """What to ask the registry for: the digest where there is one, else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse(text: str) -> Reference:
    """Check and normalise a reference; InvalidInput says what is wrong with it."""
    rest, at, digest_text = text.partition("@")
    found = _digest(text, digest_text) if at else None
    rest, tag = _split_tag(text, rest)
    reference = parse_name(rest)
    if not tag and found is None:
        tag = _DEFAULT_TAG
    return Reference(registry=reference.registry, path=reference.path, tag=tag, digest=found)


def parse_name(text: str) -> Reference:
    """Check and normalise a repository's name: a reference without tag and digest."""
    first, slash, remainder = text.partition("/")
    if slash and _looks_like_registry(first):
        registry, path = first.lower(), remainder
    else:
        registry, path = DEFAULT_REGISTRY, text
    return _checked(registry, path, text)


def parse_place(text: str) -> Reference:
    """Check `host[:port]/path`, whose first part always is the registry, as configuration files write it."""
    registry, _, path = text.partition("/")
    return _checked(registry.lower(), path, text)


def _check_registry(registry: str, within: str) -> None:
    """InvalidInput unless `registry` is `host[:port]`; `within` is the text it was written in."""
    match = _REGISTRY.fullmatch(registry)
    if not match:
        raise InvalidInput(f"image reference {_shown(within)}: {_shown(registry)} is not a registry (host[:port])")
    if match.group(1) and not 0 < int(match.group(1)) < 65536:
        raise InvalidInput(f"image reference {_shown(within)}: port {match.group(1)} is not between 1 and 65535")


def _checked(registry: str, path: str, text: str) -> Reference:
    if registry == f"index.{DEFAULT_REGISTRY}":
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in path:
        path = f"{_DEFAULT_NAMESPACE}/{path}"
    _check_registry(registry, text)
    if not _PATH.fullmatch(path):
        hint = "a repository is lower case" if path != path.lower() else ""
        raise InvalidInput(f"image reference {_shown(text)}: {_shown(path)} is not a repository path", hint=hint)
    if len(registry) + len(path) + 1 > _NAME_LIMIT:
        raise InvalidInput(f"image reference {_shown(text)}: the name is longer than {_NAME_LIMIT} characters")
    if _IMAGE_ID.fullmatch(text):
        raise InvalidInput(f"image reference {_shown(text)}: 64 hex digits are an image id, not a name")
    return Reference(registry=registry, path=path)


def _looks_like_registry(first: str) -> bool:
    """Whether the part before the first slash is a registry rather than a namespace, as the peers decide it."""
    return "." in first or ":" in first or first == "localhost" or first != first.lower()


def _split_tag(text: str, rest: str) -> tuple[str, str]:
    before, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        return rest, ""
    if not _TAG.fullmatch(tag):
        raise InvalidInput(f"image reference {_shown(text)}: {_shown(tag)} is not a tag")
    return before, tag


def _digest(text: str, value: str) -> Digest:
    try:
        return digest(value)
    except InvalidInput as error:
        raise InvalidInput(f"image reference {_shown(text)}: {_shown(value)} is not a sha256 digest") from error


def _shown(text: str) -> str:
    """The text as an error may show it: no control characters, no flood, no password of a `user:password@host`."""
    head, at, tail = text.rpartition("@")
    if at and not tail.startswith("sha256:") and ":" in head:
        text = f"...@{tail}"
    return ascii(text if len(text) <= 300 else f"{text[:300]}...")
