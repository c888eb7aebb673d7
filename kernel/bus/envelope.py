"""Frames of the bus and the headers in them; what does not fit is refused. Pure. docs/bus.md is the wire's document.

A message is three frames: the protocol's mark, a header, a body. Header and body are msgpack. A caller sends Ask
and Cancel; a worker sends Answer, Told (progress) and Failed. Bodies are the contract's structures, empty where
there is nothing to say.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from kernel.errors import KINDS, CrispError, Internal, InvalidInput

MARK = b"crisp/1"
MAX_FRAME = 64 << 20
"""Bytes; a snapshot of a thousand containers is below a fifth of it."""

_T = TypeVar("_T")


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="ask"):
    """Do this."""

    id: bytes
    """16 random bytes; the same in a repeat, which then joins the first."""
    method: str
    deadline_ns: int
    """CLOCK_BOOTTIME; 0 for a watch, which has none."""
    trace: str = "-"


class Cancel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="cancel"):
    """The caller no longer waits for this ask."""

    id: bytes


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="answer"):
    """Done; the body is the reply."""

    id: bytes


class Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="told"):
    """Under way; the body is a progress message or an event."""

    id: bytes


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


def pack(header: ToWorker | ToCaller, body: msgspec.Struct | None = None) -> list[bytes]:
    """The frames of a message."""
    return [MARK, _encoder.encode(header), _encoder.encode(body) if body is not None else b""]


def unpack_for_worker(frames: list[bytes]) -> tuple[ToWorker, bytes]:
    """Header and raw body of what a caller sent; InvalidInput says why it is refused."""
    header, body = _split(frames)
    return _decode(_to_worker, header, "header"), body


def unpack_for_caller(frames: list[bytes]) -> tuple[ToCaller, bytes]:
    """Header and raw body of what a worker sent; InvalidInput says why it is refused."""
    header, body = _split(frames)
    return _decode(_to_caller, header, "header"), body


def _split(frames: list[bytes]) -> tuple[bytes, bytes]:
    if len(frames) != 3 or frames[0] != MARK:
        raise InvalidInput(f"a message of {len(frames)} frames is not of {MARK.decode()}")
    return frames[1], frames[2]


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes, what: str) -> _T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(f"{what} does not fit the contract: {error}") from error


class Body:
    """Decoder of one structure's bodies; made once per method."""

    def __init__(self, of: object) -> None:
        self._decoder: msgspec.msgpack.Decoder[msgspec.Struct] = msgspec.msgpack.Decoder(of)

    def decode(self, data: bytes) -> msgspec.Struct:
        """The structure; InvalidInput where the bytes do not fit."""
        return _decode(self._decoder, data, "body")


def failure(call: bytes, error: CrispError) -> Failed:
    """An error as it travels."""
    return Failed(id=call, kind=type(error).__name__, message=error.message, hint=error.hint)


def error_of(failed: Failed) -> CrispError:
    """A travelled error as an exception; one of an unknown kind is Internal."""
    return KINDS.get(failed.kind, Internal)(failed.message, hint=failed.hint)
