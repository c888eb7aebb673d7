"""Converts and checks what a registry or an archive contains, which may be anything, and quotes it in errors. Pure."""

from __future__ import annotations

import hashlib
from typing import TypeVar

import msgspec

from kernel.contracts.oci import Descriptor
from kernel.errors import Corrupt, InvalidInput
from kernel.formats import strict_json
from kernel.ids import Digest, digest

_T = TypeVar("_T")


def convert(data: bytes, kind: type[_T], what: str, names: frozenset[str] = frozenset()) -> _T:
    """Return a JSON document as a value of `kind`. Corrupt names `what`.

    It is also Corrupt if a key differs from one of `names` only in case.
    """
    try:
        return msgspec.convert(strict_json.loads(data, names=names), kind)
    except strict_json.NotStrictJson as error:
        raise Corrupt(f"{what}: {error}") from error
    except msgspec.ValidationError as error:
        raise Corrupt(f"{what}: {quoted(str(error)).strip(chr(39))}") from error


def checked_digest(text: str, what: str) -> Digest:
    """Return a digest that has been checked. Corrupt names `what`."""
    try:
        return digest(text)
    except InvalidInput as error:
        raise Corrupt(f"{what}: {quoted(text)} is not a sha256 digest") from error


def digest_of(data: bytes) -> Digest:
    """Return the digest of some bytes."""
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def verify(data: bytes, blob: Descriptor, what: str) -> None:
    """Raise Corrupt unless the bytes are those that a descriptor names."""
    if len(data) != blob.size or digest_of(data) != blob.digest:
        raise Corrupt(f"{what}: the {len(data)} bytes that came are not blob {blob.digest} of {blob.size} bytes")


def quoted(text: str) -> str:
    """Return the first characters of a text as an error may repeat them: quoted, with no control characters."""
    return ascii(text[:120])
