"""What a client is told at the end of a command: a Kubernetes Status on the error channel, or plain words before
version 4 of the protocol. Pure."""

from __future__ import annotations

import json


def success(*, plain: bool) -> bytes:
    """The command has ended with 0, or what was attached to has ended."""
    return b"" if plain else _status({"metadata": {}, "status": "Success"})


def exited(code: int, *, plain: bool) -> bytes:
    """The command has ended with another code."""
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


def failed(why: str, *, plain: bool) -> bytes:
    """There was no command, or nobody knows how it ended."""
    if plain:
        return why.encode()
    return _status({
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {why}",
        "reason": "InternalError",
        "details": {"causes": [{"message": why}]},
        "code": 500,
    })  # fmt: skip


def ended(code: int, *, plain: bool) -> bytes:
    """By exit code."""
    return exited(code, plain=plain) if code else success(plain=plain)


def _status(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
