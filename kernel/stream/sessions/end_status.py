"""The report of a command's end to a client: a Kubernetes Status on the error channel, or plain text before version 4
of the protocol. Pure."""

from __future__ import annotations

import json


def success(*, plain: bool) -> bytes:
    """Return the status for exit code 0, and for the end of an attach."""
    return b"" if plain else _status({"metadata": {}, "status": "Success"})


def exited(code: int, *, plain: bool) -> bytes:
    """Return the status for another exit code."""
    message = f"command terminated with non-zero exit code: {code}"
    if plain:
        return message.encode()
    return _status({
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    })  # fmt: skip


def failed(reason: str, *, plain: bool) -> bytes:
    """Return the status for the case that there was no command, or that its exit code is not known."""
    if plain:
        return reason.encode()
    return _status({
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {reason}",
        "reason": "InternalError",
        "details": {"causes": [{"message": reason}]},
        "code": 500,
    })  # fmt: skip


def ended(code: int, *, plain: bool) -> bytes:
    """Return the status for an exit code."""
    return exited(code, plain=plain) if code else success(plain=plain)


def _status(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
