"""Ids that cross a process, each with its one validator. Pure.

Sandbox and container ids are 64 lower-case hex digits, as in other container runtimes: tools cut them to 13. An id that
passed its validator is safe in a path, an argument and a cgroup name.
"""

from __future__ import annotations

import re
import secrets
from typing import NewType

from kernel.errors import InvalidInput

SandboxId = NewType("SandboxId", str)
ContainerId = NewType("ContainerId", str)
Digest = NewType("Digest", str)
"""The digest of some content: `sha256:` and 64 lower-case hex digits (OCI image specification, descriptor)."""
ImageId = NewType("ImageId", Digest)
"""The digest of an image's configuration."""
DiffId = NewType("DiffId", Digest)
"""The digest of a layer's uncompressed tar."""
SessionId = NewType("SessionId", str)
"""A streaming session, and the token in its URL: 128 random bits."""

_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SESSION = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


def new_id() -> str:
    """Return a fresh random id: 64 hex digits."""
    return secrets.token_hex(32)


def short(id_: str) -> str:
    """Return the first 13 characters of an id, which are enough for people to distinguish the objects of a node."""
    return id_[:13]


def sandbox_id(text: str) -> SandboxId:
    """Return a whole sandbox id; raises InvalidInput if the text is not one."""
    if not _ID.fullmatch(text):
        raise InvalidInput(f"pod sandbox id {text!r} is not 64 lower-case hex digits")
    return SandboxId(text)


def container_id(text: str) -> ContainerId:
    """Return a whole container id; raises InvalidInput if the text is not one."""
    if not _ID.fullmatch(text):
        raise InvalidInput(f"container id {text!r} is not 64 lower-case hex digits")
    return ContainerId(text)


def new_session() -> SessionId:
    """Return a fresh session id."""
    return SessionId(secrets.token_urlsafe(16))


def session_id(text: str) -> SessionId:
    """Return a session id; raises InvalidInput, which does not repeat the text, if it is not one."""
    if not _SESSION.fullmatch(text):
        raise InvalidInput("a session id is 22 letters, digits, _ and -")
    return SessionId(text)


def digest(text: str) -> Digest:
    """Return a digest; raises InvalidInput for another algorithm, length or case."""
    if not _DIGEST.fullmatch(text):
        raise InvalidInput(f"digest {text!r} is not sha256: and 64 lower-case hex digits")
    return Digest(text)


def helper_name(text: str) -> str:
    """Return the NAME of a credential helper, `docker-credential-NAME`; InvalidInput if it is not a plain name."""
    if not _HELPER.fullmatch(text):
        raise InvalidInput(f"credential helper {text[:80]!a} is not a plain name")
    return text


def digest_hex(value: Digest) -> str:
    """Return the hex digits of a digest, checked again, because they become the name of a file."""
    return digest(value).removeprefix("sha256:")
