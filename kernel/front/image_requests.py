"""What a caller says about an image, checked: its reference and its credentials. Pure.

Credentials are headers and form fields later on: a control character in one is refused, and no error shows one.
"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import urlsplit

from kernel.contracts.oci import Auth
from kernel.errors import InvalidInput
from kernel.front.generated import cri_pb2
from kernel.reference import DEFAULT_REGISTRY, Reference, parse

_MAX_SECRET = 64 << 10
_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


def name_of(spec: cri_pb2.ImageSpec) -> str:
    """The image that a request names."""
    if not spec.image:
        raise InvalidInput("image.image: is empty")
    return spec.image


def reference_of(spec: cri_pb2.ImageSpec) -> Reference:
    """The reference that a request wants pulled."""
    try:
        return parse(name_of(spec))
    except InvalidInput as error:
        raise InvalidInput(f"image.image: {error.message.removeprefix('image.image: ')}", hint=error.hint) from error


def auth_of(config: cri_pb2.AuthConfig, registry: str) -> Auth | None:
    """The credentials for `registry`; None where there are none, or where they are another host's."""
    for field in ("username", "password", "auth", "identity_token", "registry_token", "server_address"):
        _check(field, getattr(config, field))
    if config.server_address and _host(config.server_address) != _host(registry):
        return None
    username, password = config.username, config.password
    if not username and not password and config.auth:
        username, password = _decode(config.auth)
    if not (username or password or config.identity_token or config.registry_token):
        return None
    return Auth(
        username=username,
        password=password,
        identity_token=config.identity_token,
        registry_token=config.registry_token,
    )


def join_key(reference: Reference, auth: Auth | None) -> tuple[str, ...]:
    """What equal pulls have in common. Other credentials are another pull: they may be refused."""
    if auth is None:
        return (str(reference),)
    return (str(reference), auth.username, auth.password, auth.identity_token, auth.registry_token)


def _check(field: str, value: str) -> None:
    if len(value) > _MAX_SECRET:
        raise InvalidInput(f"auth.{field}: is longer than {_MAX_SECRET} characters")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise InvalidInput(f"auth.{field}: has a control character")


def _decode(auth: str) -> tuple[str, str]:
    """`user:password` in base64, as Docker's config.json keeps it."""
    try:
        decoded = base64.b64decode(auth, validate=True).decode().rstrip("\0")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise InvalidInput("auth.auth: is not base64 of user:password") from error
    username, colon, password = decoded.partition(":")
    if not colon:
        raise InvalidInput("auth.auth: is not base64 of user:password")
    _check("auth", decoded)
    return username, password


def _host(address: str) -> str:
    """Host and port of a server address, which may be a URL, in one spelling."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        netloc = parts.netloc.lower()
    except ValueError as error:
        raise InvalidInput("auth.server_address: is not the address of a server") from error
    host = netloc.removesuffix(":443") if parts.scheme != "http" else netloc.removesuffix(":80")
    return DEFAULT_REGISTRY if host in _DOCKER_HUB else host
