"""Image references: the grammar of distribution/reference, normalised as Docker and containers/image do. Pure.

`busybox` means `docker.io/library/busybox:latest`. The parts of a parsed reference are safe in a URL and in a log line:
registry, path, tag and digest have each matched an exact pattern. The error for a rejected reference repeats it, unless
it may contain a password.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kernel.errors import InvalidInput
from kernel.ids import Digest, digest

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
_MAX_NAME = 255
_MAX_SHOWN = 300

_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:]+\])"
    r"(?::([0-9]{1,5}))?",
    re.ASCII,
)
_PATH = re.compile(
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*",
    re.ASCII,
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_BARE_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised reference. It has a tag, a digest or both; if both, the digest decides what it names."""

    registry: str
    """Host and optional port; `docker.io` for Docker Hub under any of its names."""
    path: str
    tag: str
    digest: Digest | None

    @property
    def name(self) -> str:
        """The repository with its registry: `docker.io/library/busybox`."""
        return f"{self.registry}/{self.path}"

    @property
    def tagged(self) -> str:
        """Name and tag; empty if there is no tag, or if a digest decides, which makes the tag a mere remark."""
        return f"{self.name}:{self.tag}" if self.tag and not self.digest else ""

    def scopes(self) -> Iterator[str]:
        """Yield the scopes of policy.json and registries.d that contain this reference, the narrowest first.

        These are the reference itself, its repository and each path above that, its registry, and `*.` with each domain
        of the registry. The last one is empty: the transport's own default (containers-policy.json(5)).
        """
        name = self.name
        yield f"{name}@{self.digest}" if self.digest else f"{name}:{self.tag}"
        while name:
            yield name
            name = name.rpartition("/")[0]
        host = self.registry if self.registry.startswith("[") else self.registry.partition(":")[0]
        while "." in host:
            host = host.partition(".")[2]
            yield f"*.{host}"
        yield ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}@{self.digest}" if self.digest else f"{self.name}{tag}"


def parse(text: str) -> Reference:
    """Check and normalise a reference as a user writes it. Raises InvalidInput with the reason if it is not one."""
    if not text:
        raise InvalidInput("image reference is empty")
    if len(text) > _MAX_SHOWN + _MAX_NAME:
        raise InvalidInput(f"image reference is too long: {len(text)} characters")
    if "://" in text:
        raise InvalidInput("image reference has a URL scheme", hint="write registry/path:tag")
    if _BARE_ID.fullmatch(text) or text.startswith("sha256:"):
        raise InvalidInput(f"image reference {text!r} is an id, by which no registry finds an image")
    rest, at, digest_text = text.partition("@")
    if at and not digest_text.startswith("sha256:"):
        # This is `user:password@host/path`, or a digest of another algorithm: because of the former, nothing of it is
        # shown.
        raise InvalidInput("image reference: the text after '@' is not a sha256 digest")
    found_digest = _digest(text, digest_text) if at else None
    registry, path, tag = _split(rest)
    if not (match := _HOST.fullmatch(registry)) or (match.group(1) and not 0 < int(match.group(1)) < 65536):
        raise InvalidInput(f"image reference {text!r}: {registry!r} is not a registry's host and port")
    if not _PATH.fullmatch(path):
        raise InvalidInput(
            f"image reference {text!r}: {path!r} is not a repository path",
            hint="lower-case letters and digits, with single dots, underscores, dashes or slashes between",
        )
    if len(registry) + 1 + len(path) > _MAX_NAME:
        raise InvalidInput(f"image reference {text!r}: the name is longer than {_MAX_NAME} characters")
    if tag is not None and not _TAG.fullmatch(tag):
        raise InvalidInput(f"image reference {text!r}: {tag!r} is not a tag")
    if tag is None and found_digest is None:
        tag = DEFAULT_TAG
    return Reference(registry, path, tag or "", found_digest)


def is_short(text: str) -> bool:
    """Return whether a reference names no registry, so that registries.conf decides what it means."""
    return not _registry_of(text.partition("@")[0])


def repository(text: str) -> str:
    """Return a reference as it is written, without its tag and digest."""
    name = text.partition("@")[0]
    first, slash, path = name.rpartition("/")
    return f"{first}{slash}{path.partition(':')[0]}"


def _digest(text: str, digest_text: str) -> Digest:
    try:
        return digest(digest_text)
    except InvalidInput as error:
        raise InvalidInput(f"image reference {text!r}: {error.message}") from error


def _split(rest: str) -> tuple[str, str, str | None]:
    """Split the part before the digest into registry, path and tag. Without a registry it is Docker Hub's."""
    registry = _registry_of(rest)
    registry, path = (registry, rest[len(registry) + 1 :]) if registry else (DEFAULT_REGISTRY, rest)
    if registry in {"index.docker.io", "registry-1.docker.io"}:
        registry = DEFAULT_REGISTRY
    path, colon, tag = path.partition(":")
    if registry == DEFAULT_REGISTRY and path and "/" not in path:
        path = f"library/{path}"
    return registry, path, tag if colon else None


def _registry_of(rest: str) -> str:
    """Return the registry that a name begins with; empty if it has none."""
    first, slash, _ = rest.partition("/")
    # a host differs from a path as in distribution/reference: a dot, a port, an upper-case letter, or `localhost`.
    is_host = slash and (any(mark in first for mark in ".:[") or first == "localhost" or first != first.lower())
    return first if is_host else ""
