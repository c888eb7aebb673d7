"""The reason why a connection to a registry failed, and whether the same request may succeed in a moment.

The texts are crisp's own. Those of h11 may repeat what was received, so they are never used: no byte that a registry
sent is in an error.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

import h11

from kernel.errors import Unavailable
from services.image.registry.http_connection import BrokenOff, Disconnected

_T = TypeVar("_T")


class Transient(Exception):
    """The cause of an error that may be gone in a moment: the network failed, or the server was busy."""


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may succeed in a moment."""
    return isinstance(error.__cause__, Transient)


def cause_of(error: Exception) -> Exception:
    """Return the cause to raise a CrispError from: Transient if `error` may be gone in a moment, else `error`."""
    return Transient() if isinstance(error, OSError) else error


def guarded(host: str, step: Callable[[], _T]) -> _T:
    """Return the result of `step`; its foreign errors become Unavailable."""
    try:
        return step()
    except (OSError, h11.ProtocolError, ValueError) as error:
        raise Unavailable(f"registry {host}: {reason_of(error)}") from cause_of(error)


def reason_of(error: Exception | None) -> str:
    """Return why a connection failed; None means that there was no address to connect to."""
    match error:
        case None:
            return "it has no address"
        case TimeoutError():
            return "stalled: no byte within the progress timeout"
        case BrokenOff():
            return "broke off before the end"
        case ConnectionResetError() | BrokenPipeError() | Disconnected():
            return "closed the connection"
        case h11.ProtocolError():
            is_length = "Content-Length" in str(error)
            return "its header 'Content-Length' is malformed" if is_length else "sent malformed HTTP"
        case ssl.SSLError():
            return tls_reason(error)
        case OSError():
            return error.strerror or type(error).__name__
        case _:
            return type(error).__name__


def tls_reason(error: ssl.SSLError) -> str:
    """Return why TLS failed; OpenSSL gives no reason if the connection was closed in the middle of the handshake."""
    return f"TLS failed: {getattr(error, 'reason', None) or 'the connection was closed'}"


def status_text(status: int) -> str:
    """Return an HTTP status with crisp's own phrase, not the registry's."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
