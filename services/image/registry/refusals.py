"""Turns a registry's refusal, its status and error code, into one of crisp's errors.

Only error codes of the distribution specification (section Error Codes) are repeated, nothing else that it sent.
"""

from __future__ import annotations

import msgspec

from kernel.contracts.oci import Auth
from kernel.errors import CrispError, NotFound, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable
from kernel.formats import strict_json
from services.image.registry.failures import Transient, status_text
from services.image.registry.response import Response

_LIMIT = 64 << 10
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed in a moment."""
_CODES = frozenset({
    "BLOB_UNKNOWN", "DENIED", "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "TAG_INVALID",
    "TOOMANYREQUESTS", "UNAUTHORIZED", "UNAVAILABLE", "UNKNOWN", "UNSUPPORTED",
})  # fmt: skip


class _RegistryError(msgspec.Struct, frozen=True):
    code: str = ""


class _RegistryErrors(msgspec.Struct, frozen=True):
    errors: list[_RegistryError] = []


def refused(response: Response, what: str, auth: Auth) -> CrispError:
    """Return the error for a refusal, and close the answer. `auth`: the credentials that were sent."""
    reason = status_text(response.status)
    code = _code(response)
    response.close()
    text = f"registry {response.host}: {what}: {reason}{f' ({code})' if code else ''}"
    kind: type[CrispError] = Unavailable
    if response.status == 401:
        kind = Unauthenticated
        text += ": the credentials were refused" if auth != Auth() else ": it wants credentials"
    elif response.status == 403:
        kind = PermissionDenied
    elif response.status == 404:
        kind = NotFound
    elif response.status == 429:
        kind = ResourceExhausted
        text += ": too many requests"
    error = kind(text)
    error.__cause__ = Transient() if response.status in _BUSY else None
    return error


def _code(response: Response) -> str:
    """Return the first error code in a refusal that the specification has; empty if there is none."""
    try:
        found = msgspec.convert(strict_json.loads(response.read(_LIMIT)), _RegistryErrors)
    except (Unavailable, strict_json.NotStrictJson, msgspec.ValidationError):
        return ""  # such as the page of a proxy: only the status is left to go by
    return next((error.code for error in found.errors if error.code in _CODES), "")
