"""ImageSpec and AuthConfig of the ImageService's requests, checked: an image's reference and its credentials. Pure.

ImageSpec.image is what counts; annotations, runtime_handler and image_ref are ignored, for an image is the same for all
handlers. user_specified_image is shown in statuses (`container_config`).

Credentials become headers and form fields, so a control character in one is refused. No error message shows one.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from kernel.contracts.oci import Auth
from kernel.cri.generated import cri_pb2
from kernel.errors import InvalidInput
from kernel.formats.reference import DEFAULT_REGISTRY, Reference, is_short

_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_MAX_SECRET = 64 << 10
_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True, slots=True)
class PullPlan:
    """A PullImageRequest, checked."""

    candidates: tuple[tuple[Reference, Auth | None], ...]
    """The references to try, in this order, each with the request's credentials if they are for its registry.

    There is more than one only for a short name."""
    namespace: str = ""
    """PullImageRequest.sandbox_config.metadata.namespace: that of the pod for which the image is pulled."""

    def __str__(self) -> str:
        return " or ".join(str(reference) for reference, _ in self.candidates)


def name_of(spec: cri_pb2.ImageSpec) -> str:
    """Return ImageSpec.image."""
    if not spec.image:
        raise InvalidInput("image.image: is empty")
    return spec.image


def pull_of(
    spec: cri_pb2.ImageSpec, auth: cri_pb2.AuthConfig, namespace: str, candidates: Callable[[str], Sequence[Reference]]
) -> PullPlan:
    """Check a PullImageRequest: image, auth and the pod's namespace.

    `candidates` returns the references that the image's name may mean.
    """
    name = name_of(spec)
    try:
        found = candidates(name)
    except InvalidInput as error:
        raise InvalidInput(f"image.image: {error.message.removeprefix('image.image: ')}", hint=error.hint) from error
    if namespace and not _NAMESPACE.fullmatch(namespace):
        raise InvalidInput(f"sandbox_config.metadata.namespace: {namespace[:80]!r} is not a namespace's name")
    short = is_short(name)
    return PullPlan(tuple((one, auth_of(auth, one.registry, short=short)) for one in found), namespace)


def auth_of(config: cri_pb2.AuthConfig, registry: str, *, short: bool = False) -> Auth | None:
    """Return the credentials of AuthConfig for `registry`; None if there are none, or if they are for another host.

    Credentials without a server_address are for `registry`; if the image's name is `short` they are for docker.io,
    for which the kubelet has looked them up.
    """
    for field in ("username", "password", "auth", "identity_token", "registry_token", "server_address"):
        _check(field, getattr(config, field))
    server = config.server_address or (DEFAULT_REGISTRY if short else registry)
    if _host(server) != _host(registry):
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


def join_key(plan: PullPlan) -> tuple[str, ...]:
    """Return the key by which equal pulls join.

    Other credentials make another pull, for they may be refused; so does another namespace, which may have other
    credentials.
    """
    key = [plan.namespace]
    for reference, auth in plan.candidates:
        key += [
            str(reference),
            *((auth.username, auth.password, auth.identity_token, auth.registry_token) if auth else ()),
        ]
    return tuple(key)


def _check(field: str, value: str) -> None:
    if len(value) > _MAX_SECRET:
        raise InvalidInput(f"auth.{field}: is longer than {_MAX_SECRET} characters")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise InvalidInput(f"auth.{field}: has a control character")


def _decode(auth: str) -> tuple[str, str]:
    """Return username and password of AuthConfig.auth: `user:password` in base64, as in Docker's config.json."""
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
    """Return host and port of AuthConfig.server_address, which may be a URL, in one spelling."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        netloc = parts.netloc.lower()
    except ValueError as error:
        raise InvalidInput("auth.server_address: is not the address of a server") from error
    host = netloc.removesuffix(":443") if parts.scheme != "http" else netloc.removesuffix(":80")
    return DEFAULT_REGISTRY if host in _DOCKER_HUB else host
