"""What the wire takes and refuses."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernel.bus.envelope import (
    MARK,
    Answer,
    Ask,
    Body,
    Cancel,
    Failed,
    body,
    error_of,
    failure,
    pack,
    unpack_for_caller,
    unpack_for_worker,
)
from kernel.contracts.storage import MountRequest
from kernel.errors import KINDS, CrispError, Internal, InvalidInput
from kernel.ids import ContainerId, DiffId, Digest

REQUEST = MountRequest(container=ContainerId("c"), layers=(DiffId(Digest("d")),))
ASK = Ask(id=b"1", method="mount", deadline_ns=5, trace="t", body=body(REQUEST))


def test_a_message_comes_through_whole() -> None:
    message = unpack_for_worker(pack(ASK))
    assert isinstance(message, Ask)
    assert (message.id, message.method, message.deadline_ns, message.trace) == (b"1", "mount", 5, "t")
    assert Body(MountRequest).decode(message.body) == REQUEST


def test_each_side_refuses_what_the_other_should_send() -> None:
    with pytest.raises(InvalidInput, match="does not fit"):
        unpack_for_worker(pack(Answer(id=b"1")))
    with pytest.raises(InvalidInput, match="does not fit"):
        unpack_for_caller(pack(Cancel(id=b"1")))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_error_travels(kind: type[CrispError]) -> None:
    message = unpack_for_caller(pack(failure(b"1", kind("it failed", hint="do this"))))
    assert isinstance(message, Failed)
    error = error_of(message)
    assert type(error) is kind
    assert str(error) == "it failed; do this"


def test_an_unknown_error_is_internal() -> None:
    assert type(error_of(Failed(id=b"1", kind="Novel", message="m"))) is Internal


@given(st.binary(max_size=300), st.sampled_from([b"", MARK, MARK + b"\x83\xa4type\xa3ask"]))
@example(b"\xaa" + bytes(9) + b"\x80", MARK + b"\x83\xa4type\xa3ask")
def test_no_bytes_do_more_than_be_refused(data: bytes, start: bytes) -> None:
    for unpack in (unpack_for_worker, unpack_for_caller):
        with pytest.raises(InvalidInput):
            unpack(start + data)


@given(st.binary(max_size=300))
def test_no_body_does_more_than_be_refused(data: bytes) -> None:
    decoder = Body(MountRequest)
    try:
        decoder.decode(msgspec.Raw(data))
    except InvalidInput:
        return
    assert decoder.decode(msgspec.Raw(data)) == decoder.decode(msgspec.Raw(data))
