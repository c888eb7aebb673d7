"""policy.json: the requirements that an image must meet. Pure.

The format is containers-policy.json(5), and it is read as strictly as that page demands: an unknown, doubled or wrong
field makes the whole file void, and a void file accepts nothing. A requirement that crisp cannot check (certificates of
Fulcio, entries of Rekor, keys of other kinds) is never taken for met: it refuses the images of its scope, and the error
names it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import Enum

import msgspec

from kernel.errors import InvalidInput
from kernel.formats import strict_json
from kernel.formats.reference import Reference
from services.storage.trust import identity


class Kind(Enum):
    """The kind of a requirement; the value is its `type` in the file."""

    ACCEPT = "insecureAcceptAnything"
    REJECT = "reject"
    SIMPLE = "signedBy"
    SIGSTORE = "sigstoreSigned"


class _Requirement(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", rename="camel"
):
    """One object of a list of requirements."""


class _Accept(_Requirement, frozen=True, tag="insecureAcceptAnything"):
    pass


class _Reject(_Requirement, frozen=True, tag="reject"):
    pass


class _Signed(_Requirement, frozen=True, kw_only=True):
    key_path: str | None = None
    key_paths: tuple[str, ...] | None = None
    key_data: str | None = None
    signed_identity: identity.Rule = identity.DEFAULT


class _SignedBy(_Signed, frozen=True, kw_only=True, tag="signedBy"):
    key_type: str


class _SigstoreSigned(_Signed, frozen=True, kw_only=True, tag="sigstoreSigned"):
    key_datas: tuple[str, ...] | None = None
    fulcio: dict[str, object] | None = None
    pki: dict[str, object] | None = None
    rekor_public_key_path: str | None = None
    rekor_public_key_paths: tuple[str, ...] | None = None
    rekor_public_key_data: str | None = None
    rekor_public_key_datas: tuple[str, ...] | None = None


_Requirements = list[_Accept | _Reject | _SignedBy | _SigstoreSigned]


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    default: _Requirements
    transports: dict[str, dict[str, _Requirements]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One requirement whose form has been checked."""

    kind: Kind
    key_paths: tuple[str, ...] = ()
    """Paths of key files; a signature by any of the keys counts."""
    key_data: tuple[bytes, ...] = ()
    """Contents of further key files."""
    identity: identity.Rule = identity.DEFAULT
    unsupported: str = ""
    """The part that crisp cannot check; empty if it can check all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A whole policy.json."""

    default: tuple[Requirement, ...]
    docker: dict[str, tuple[Requirement, ...]]
    """The requirements of images from registries, by scope."""


def parse(data: bytes) -> Policy:
    """Read a policy.json; InvalidInput names its fault and the place."""
    try:
        found = msgspec.convert(strict_json.loads(data), _File)
    except strict_json.NotStrictJson as error:
        raise InvalidInput(str(error)) from error
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error).replace("`", "'")) from error
    default = _requirements(found.default, "default")
    transports = {
        name: {scope: _requirements(given, f"transports.{name}[{scope!r}]") for scope, given in scopes.items()}
        for name, scopes in found.transports.items()
    }
    docker = transports.get("docker", {})
    for scope in docker:
        _check_scope(scope)
    return Policy(default=default, docker=docker)


def choose(policy: Policy, image: Reference | None) -> tuple[str, tuple[Requirement, ...]]:
    """Return the narrowest scope that contains an image, as text for an error, and its requirements.

    An image without a name (None) falls under the default.
    """
    for scope in image.scopes() if image else ():
        if scope in policy.docker:
            return f"scope {scope!r}" if scope else "default of transport docker", policy.docker[scope]
    return "default", policy.default


def _check_scope(scope: str) -> None:
    """Raise InvalidInput for a scope that no image can fall under: its requirements would silently not apply."""
    host = scope.partition("/")[0]
    if "*" in scope and (not host.startswith("*.") or "*" in scope[1:] or "/" in scope or len(host) < 3):
        raise InvalidInput(f"transports.docker: {scope!r}: a wildcard is '*.' and the rest of a host's name, alone")
    if any(mark in scope for mark in (" ", "://")) or scope.endswith("/"):
        raise InvalidInput(f"transports.docker: {scope!r} is no scope of an image")


def _requirements(given: _Requirements, where: str) -> tuple[Requirement, ...]:
    if not given:
        raise InvalidInput(f"{where}: the list of requirements is empty")
    return tuple(_requirement(one, f"{where}[{at}]") for at, one in enumerate(given))


def _requirement(given: _Accept | _Reject | _SignedBy | _SigstoreSigned, where: str) -> Requirement:
    match given:
        case _Accept():
            return Requirement(kind=Kind.ACCEPT)
        case _Reject():
            return Requirement(kind=Kind.REJECT)
        case _SignedBy():
            unsupported = "" if given.key_type == "GPGKeys" else f"keyType {given.key_type!r}"
            return _signed(Kind.SIMPLE, given, {}, unsupported, where)
        case _SigstoreSigned():
            others: dict[str, object] = {"keyDatas": given.key_datas, "fulcio": given.fulcio, "pki": given.pki}
            return _signed(Kind.SIGSTORE, given, others, _beyond_keys(given), where)


def _beyond_keys(given: _SigstoreSigned) -> str:
    if given.fulcio is not None:
        return "fulcio, which needs the certificates and the log of a Sigstore service"
    if given.pki is not None:
        return "pki, certificates of a certificate authority"
    rekor = {
        "rekorPublicKeyPath": given.rekor_public_key_path,
        "rekorPublicKeyPaths": given.rekor_public_key_paths,
        "rekorPublicKeyData": given.rekor_public_key_data,
        "rekorPublicKeyDatas": given.rekor_public_key_datas,
    }
    return next((f"{key}, entries of a Rekor log" for key, value in rekor.items() if value is not None), "")


def _signed(kind: Kind, given: _Signed, others: dict[str, object], unsupported: str, where: str) -> Requirement:
    sources: dict[str, object] = {"keyPath": given.key_path, "keyPaths": given.key_paths, "keyData": given.key_data}
    named = [key for key, value in {**sources, **others}.items() if value is not None]
    if len(named) != 1:
        wanted = " or ".join({**sources, **others})
        raise InvalidInput(f"{where}: one of {wanted} must be given, and not {' and '.join(named) or 'none'}")
    paths = given.key_paths or ((given.key_path,) if given.key_path is not None else ())
    datas = others.get("keyDatas")
    texts = tuple(datas) if isinstance(datas, tuple) else (given.key_data,) if given.key_data is not None else ()
    if not paths and not texts and not unsupported:
        raise InvalidInput(f"{where}.{named[0]}: is empty")
    for path in paths:
        if not path.startswith("/"):
            raise InvalidInput(f"{where}.{named[0]}: {path!r} is not an absolute path")
    try:
        identity.check(given.signed_identity, f"{where}.signedIdentity")
        data = tuple(base64.b64decode(text, validate=True) for text in texts)
    except binascii.Error as error:
        raise InvalidInput(f"{where}.{named[0]}: is not base64") from error
    return Requirement(
        kind=kind, key_paths=paths, key_data=data, identity=given.signed_identity, unsupported=unsupported
    )
