"""Messages of the bus and their frames; a message that does not fit is refused. Pure. docs/bus.md describes the wire.

A message is three frames: the protocol's mark, the header, and the body. A caller sends Request and Cancel; a worker
sends Answer, Progress and Failed. The header names the kind of message and the call that it belongs to; the body is
the structure of the contract. Only the method that the header names decides what the body must be, so the two are
decoded one after the other: the header by `kernel.bus.codec`, the body by msgspec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from kernel.bus.codec import MAX_BYTES, MAX_TEXT, pack_header, unpack_header
from kernel.errors import KINDS, CrispError, Internal, InvalidInput

MARK = b"crisp/2"
"""The first frame: the protocol and its version."""
FRAMES = 3
"""Frames of a message: mark, header, body."""
MAX_FRAME = 64 << 20
"""Bytes of a frame, and so of a body, enforced by ZeroMQ. A snapshot of a thousand containers is below a fifth of
this."""

Frames = tuple[bytes, bytes, bytes]
CallId = Annotated[bytes, Meta(min_length=MAX_BYTES, max_length=MAX_BYTES)]
"""16 random bytes."""

_T = TypeVar("_T")


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: CallId
    """The call that the message belongs to. A request that is sent again has the same id, and joins the first."""


class Request(_Header, frozen=True, kw_only=True, tag="request"):
    """Run a method; the body is the method's request."""

    method: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
    deadline_ns: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    """Nanoseconds of CLOCK_BOOTTIME at which the caller gives up; 0 for a watch, which has no deadline."""
    trace: Annotated[str, Meta(max_length=MAX_TEXT)]
    """Id of the CRI call that this serves, for logs; `-` if it serves none."""


class Cancel(_Header, frozen=True, kw_only=True, tag="cancel"):
    """The caller no longer waits for this call; the body is empty."""


class Answer(_Header, frozen=True, kw_only=True, tag="answer"):
    """The call has succeeded; the body is the method's reply."""


class Progress(_Header, frozen=True, kw_only=True, tag="progress"):
    """The call is under way; the body is a progress message, or an event of a watch."""


class Failed(_Header, frozen=True, kw_only=True, tag="failed"):
    """The call has failed; the body is a Failure."""


class Failure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An error of the closed set of `kernel.errors`."""

    kind: str
    """Name of the error's class, such as `NotFound`."""
    message: str
    """The error's message: the failure, the object and the reason."""
    hint: str = ""
    """The error's hint: the remedy."""


ToWorker = Request | Cancel
ToCaller = Answer | Progress | Failed

_TO_WORKER: dict[str, type[ToWorker]] = {"request": Request, "cancel": Cancel}
_TO_CALLER: dict[str, type[ToCaller]] = {"answer": Answer, "progress": Progress, "failed": Failed}
"""Kinds by their Python type. msgspec converts into a union of types six times as slowly as into one of them."""
_NATIVE = (bytes,)
"""Types that a header holds as they are. Otherwise msgspec would accept text in base64 in place of bytes."""

_encoder = msgspec.msgpack.Encoder()


def pack(header: ToWorker | ToCaller, body: msgspec.Struct | None = None) -> Frames:
    """Return a message's frames."""
    fields: dict[str, object] = msgspec.to_builtins(header, builtin_types=_NATIVE)
    return MARK, pack_header(fields), b"" if body is None else _encoder.encode(body)


def pack_failure(call: bytes, error: CrispError) -> Frames:
    """Return the frames that report `error` as the end of a call."""
    failure = Failure(kind=type(error).__name__, message=error.message, hint=error.hint)
    return pack(Failed(id=call), failure)


def unpack_for_worker(frames: Sequence[bytes]) -> tuple[ToWorker, bytes]:
    """Return header and body of a message from a caller; raises InvalidInput with the reason if it is refused."""
    fields, body = _split(frames)
    header = _convert(fields, _TO_WORKER)
    if isinstance(header, Cancel) and body:
        raise InvalidInput(f"a cancel has a body of {len(body)} bytes")
    return header, body


def unpack_for_caller(frames: Sequence[bytes]) -> tuple[ToCaller, bytes]:
    """Return header and body of a message from a worker; raises InvalidInput with the reason if it is refused."""
    fields, body = _split(frames)
    return _convert(fields, _TO_CALLER), body


def _split(frames: Sequence[bytes]) -> tuple[dict[str, object], bytes]:
    if frames and frames[0] != MARK:
        raise InvalidInput(f"a message is not of {MARK.decode()}: it begins with {frames[0][:16]!r}")
    if len(frames) != FRAMES:
        count = f"more than {FRAMES}" if len(frames) > FRAMES else len(frames)
        raise InvalidInput(f"a message has {count} frames instead of {FRAMES}")
    return unpack_header(frames[1]), frames[2]


def _convert(fields: dict[str, object], kinds: Mapping[str, type[_T]]) -> _T:
    kind = fields.get("type")
    if not isinstance(kind, str) or kind not in kinds:
        raise InvalidInput(f"header is of type {kind!r}, not one of {', '.join(kinds)}")
    try:
        return msgspec.convert(fields, kinds[kind], builtin_types=_NATIVE)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"header of a {kind} does not fit: {error}") from error


class Body:
    """The decoder of one structure's bodies; made once per method."""

    def __init__(self, of: object) -> None:
        self._decoder: msgspec.msgpack.Decoder[msgspec.Struct] = msgspec.msgpack.Decoder(of)

    def decode(self, data: bytes) -> msgspec.Struct:
        """Return the structure; raises InvalidInput if the bytes do not fit it."""
        return _decode(self._decoder, data)


_failure = msgspec.msgpack.Decoder(Failure)


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes) -> _T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # a key that is no text escapes msgspec
        raise InvalidInput(f"body does not fit the contract: {error}") from error


def error_of(body: bytes) -> CrispError:
    """Return the error that the body of a Failed reports; an error of an unknown kind becomes Internal."""
    failure = _decode(_failure, body)
    return KINDS.get(failure.kind, Internal)(failure.message, hint=failure.hint)
