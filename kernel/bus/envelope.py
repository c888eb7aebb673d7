"""Messages of the bus; what does not fit is refused. Pure. docs/bus.md is the wire's document.

A message is one frame: the protocol's mark, then a msgpack map, the header, whose `body` is the contract's structure,
nil where there is nothing to say. A caller sends Ask and Cancel; a worker sends Answer, Told (progress) and Failed.
The body is decoded apart from its header: only the method that the header names says what it must be.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from kernel.errors import KINDS, CrispError, Internal, InvalidInput

MARK = b"crisp/1"
MAX_FRAME = 64 << 20
"""Bytes; a snapshot of a thousand containers is below a fifth of it."""

_T = TypeVar("_T")
_NIL = msgspec.Raw(b"\xc0")


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="ask"):
    """Do this."""

    id: bytes
    """16 random bytes; the same in a repeat, which then joins the first."""
    method: str
    deadline_ns: int
    """CLOCK_BOOTTIME; 0 for a watch, which has none."""
    trace: str = "-"
    body: msgspec.Raw = _NIL


class Cancel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="cancel"):
    """The caller no longer waits for this ask."""

    id: bytes


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="answer"):
    """Done; the body is the reply."""

    id: bytes
    body: msgspec.Raw = _NIL


class Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="told"):
    """Under way; the body is a progress message or an event."""

    id: bytes
    body: msgspec.Raw = _NIL


class Failed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="failed"):
    """An error of the closed set, by the name of its class."""

    id: bytes
    kind: str
    message: str
    hint: str = ""


ToWorker = Ask | Cancel
ToCaller = Answer | Told | Failed

_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_to_caller = msgspec.msgpack.Decoder(ToCaller)


def pack(message: ToWorker | ToCaller) -> bytes:
    """A message as its frame."""
    return MARK + _encoder.encode(message)


def body(of: msgspec.Struct) -> msgspec.Raw:
    """A structure as a message carries it."""
    return msgspec.Raw(_encoder.encode(of))


def unpack_for_worker(frame: bytes) -> ToWorker:
    """What a caller sent; InvalidInput says why it is refused."""
    message: ToWorker = _decode(_to_worker, _after_mark(frame), "message")
    return message


def unpack_for_caller(frame: bytes) -> ToCaller:
    """What a worker sent; InvalidInput says why it is refused."""
    message: ToCaller = _decode(_to_caller, _after_mark(frame), "message")
    return message


def _after_mark(frame: bytes) -> memoryview:
    if not frame.startswith(MARK):
        raise InvalidInput(f"a message of {len(frame)} bytes is not of {MARK.decode()}")
    return memoryview(frame)[len(MARK) :]


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes | memoryview | msgspec.Raw, what: str) -> _T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # a key that is no text escapes msgspec
        raise InvalidInput(f"{what} does not fit the contract: {error}") from error


class Body:
    """Decoder of one structure's bodies; made once per method."""

    def __init__(self, of: object) -> None:
        self._decoder: msgspec.msgpack.Decoder[msgspec.Struct] = msgspec.msgpack.Decoder(of)

    def decode(self, data: msgspec.Raw) -> msgspec.Struct:
        """The structure; InvalidInput where the bytes do not fit."""
        return _decode(self._decoder, data, "body")


def failure(call: bytes, error: CrispError) -> Failed:
    """An error as it travels."""
    return Failed(id=call, kind=type(error).__name__, message=error.message, hint=error.hint)


def error_of(failed: Failed) -> CrispError:
    """A travelled error as an exception; one of an unknown kind is Internal."""
    return KINDS.get(failed.kind, Internal)(failed.message, hint=failed.hint)
