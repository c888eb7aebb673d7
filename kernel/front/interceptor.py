"""Wraps every RPC: sets its deadline and trace id, logs one line, and turns errors into gRPC status codes.

No other module names status codes. The function that serves an RPC raises kernel.errors; any other exception is a bug
of crisp: it is logged with its traceback and answered with INTERNAL.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NoReturn, cast

import grpc
from google.protobuf.message import DecodeError, Message

from kernel.errors import (
    AlreadyExists,
    Cancelled,
    Corrupt,
    CrispError,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidInput,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Untrusted,
)
from kernel.front.context import Call, Front, Serve, ServeStream
from kernel.host.aio import Deadline
from kernel.log import TRACE

_LOG = logging.getLogger(__name__)

STATUS: dict[type[CrispError], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    Untrusted: grpc.StatusCode.UNKNOWN,
    ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    Cancelled: grpc.StatusCode.CANCELLED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    Corrupt: grpc.StatusCode.DATA_LOSS,
    Internal: grpc.StatusCode.INTERNAL,
}
BEGINNINGS: dict[type[CrispError], str] = {Untrusted: "SignatureValidationFailed: "}
"""Words that the kubelet looks for at the beginning of a message (cri-api, pkg/errors)."""
_OURS = (Internal, Corrupt)
"""Errors that an administrator must see; the others are caused by the caller or a registry."""

DEFAULT_SECONDS = 120.0
"""The deadline, in seconds, of a call that gives none; the kubelet's own default is the same."""
_LONG_SECONDS: dict[str, float] = {
    "PullImage": 3600.0,
    "ExecSync": 3600.0,
    "RunPodSandbox": 240.0,
    "CreateContainer": 240.0,
    "StopContainer": 86400.0,
    "LoadImage": 600.0,
}
_MESSAGE_LIMIT = 4096
"""The longest status message, in characters: it travels in HTTP/2 headers, of which gRPC's clients take 8 KiB."""

_Context = grpc.aio.ServicerContext[Message, Message]
_UnaryCall = Callable[[Front, Message, Call], Awaitable[Message | bytes]]
_StreamCall = Callable[[Front, Message, Call], AsyncIterator[Message | bytes]]


def unary(
    front: Front, rpc: str, serve: Serve
) -> Callable[[Message | DecodeError, _Context], Awaitable[Message | bytes]]:
    """Make the gRPC handler of a unary RPC."""
    inner = cast("_UnaryCall", serve)

    async def handle(request: Message | DecodeError, context: _Context) -> Message | bytes:
        call, started = _begin(rpc, context)
        try:
            async with call.deadline.limit(rpc):
                reply = await inner(front, _parsed(request), call)
        except CrispError as caught:
            error = caught
        except asyncio.CancelledError:
            _ended(rpc, started, "the caller went away")
            raise
        except Exception as caught:  # noqa: BLE001  # a bug must be answered and logged here, or nowhere
            _LOG.exception("%s failed", rpc)
            error = Internal(f"{rpc}: {type(caught).__name__}: {caught}")
        else:
            _ended(rpc, started)
            return reply
        return await _refuse(rpc, started, error, context)

    return handle


def stream(
    front: Front, rpc: str, serve: ServeStream
) -> Callable[[Message | DecodeError, _Context], AsyncIterator[Message | bytes]]:
    """Make the gRPC handler of a server-streaming RPC. It has no deadline but the caller's."""
    inner = cast("_StreamCall", serve)

    async def handle(request: Message | DecodeError, context: _Context) -> AsyncIterator[Message | bytes]:
        call, started = _begin(rpc, context)
        try:
            async for part in inner(front, _parsed(request), call):
                yield part
        except CrispError as caught:
            error = caught
        except (asyncio.CancelledError, GeneratorExit):
            _ended(rpc, started, "the caller went away")
            raise
        except Exception as caught:  # noqa: BLE001  # as above
            _LOG.exception("%s failed", rpc)
            error = Internal(f"{rpc}: {type(caught).__name__}: {caught}")
        else:
            _ended(rpc, started)
            return
        await _refuse(rpc, started, error, context)

    return handle


async def unserved(front: Front, request: Message, call: Call) -> Message:
    """Answer an RPC of the interface that crisp does not serve."""
    raise Unimplemented(f"{call.rpc} is not served by crisp")


def unserved_stream(front: Front, request: Message, call: Call) -> AsyncIterator[Message]:
    """Answer a streaming RPC of the interface that crisp does not serve."""
    raise Unimplemented(f"{call.rpc} is not served by crisp")


def _parsed(request: Message | DecodeError) -> Message:
    """Return the request; raise InvalidInput if its bytes could not be parsed."""
    if isinstance(request, DecodeError):
        raise InvalidInput(f"request: {request}")
    return request


def status_of(error: CrispError) -> grpc.StatusCode:
    """Return the status code of an error."""
    return STATUS[type(error)]


def _begin(rpc: str, context: _Context) -> tuple[Call, float]:
    trace = secrets.token_hex(4)
    TRACE.set(trace)
    left = context.time_remaining()
    seconds = _LONG_SECONDS.get(rpc, DEFAULT_SECONDS) if left is None else left
    return Call(rpc=rpc, deadline=Deadline.after(seconds), trace=trace), time.monotonic()


def _ended(rpc: str, started: float, how: str = "ok") -> None:
    level = logging.DEBUG if rpc.startswith(_READING) or rpc.endswith(_READING) else logging.INFO
    _LOG.log(level, "%s: %s in %.1f ms", rpc, how, (time.monotonic() - started) * 1e3)


_READING = ("List", "Stream", "Stats", "Status", "Version", "RuntimeConfig", "ImageFsInfo")
"""How the names of RPCs begin or end that change nothing: the kubelet calls them all the time, so they are logged at
DEBUG."""


async def _refuse(rpc: str, started: float, error: CrispError, context: _Context) -> NoReturn:
    code, text = status_of(error), f"{BEGINNINGS.get(type(error), '')}{error}"
    level = logging.ERROR if isinstance(error, _OURS) else logging.INFO
    _LOG.log(level, "%s: %s in %.1f ms: %s", rpc, code.name, (time.monotonic() - started) * 1e3, text)
    await context.abort(code, text if len(text) <= _MESSAGE_LIMIT else f"{text[:_MESSAGE_LIMIT]}…")
