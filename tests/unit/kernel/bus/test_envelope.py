"""What the wire takes and refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.bus.envelope import (
    Answer,
    Ask,
    Body,
    Cancel,
    Failed,
    error_of,
    failure,
    pack,
    unpack_for_caller,
    unpack_for_worker,
)
from kernel.contracts.storage import MountRequest
from kernel.errors import KINDS, CrispError, Internal, InvalidInput
from kernel.ids import ContainerId, DiffId, Digest

ASK = Ask(id=b"1", method="mount", deadline_ns=5, trace="t")
REQUEST = MountRequest(container=ContainerId("c"), layers=(DiffId(Digest("d")),))


def test_a_message_comes_through_whole() -> None:
    header, body = unpack_for_worker(pack(ASK, REQUEST))
    assert header == ASK
    assert Body(MountRequest).decode(body) == REQUEST


def test_each_side_refuses_what_the_other_should_send() -> None:
    with pytest.raises(InvalidInput, match="does not fit"):
        unpack_for_worker(pack(Answer(id=b"1")))
    with pytest.raises(InvalidInput, match="does not fit"):
        unpack_for_caller(pack(Cancel(id=b"1")))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_error_travels(kind: type[CrispError]) -> None:
    header, _ = unpack_for_caller(pack(failure(b"1", kind("it failed", hint="do this"))))
    assert isinstance(header, Failed)
    error = error_of(header)
    assert type(error) is kind
    assert str(error) == "it failed; do this"


def test_an_unknown_error_is_internal() -> None:
    assert type(error_of(Failed(id=b"1", kind="Novel", message="m"))) is Internal


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_no_bytes_do_more_than_be_refused(frames: list[bytes]) -> None:
    for unpack in (unpack_for_worker, unpack_for_caller):
        with pytest.raises(InvalidInput):
            unpack(frames)


@given(st.binary(max_size=300))
def test_no_body_does_more_than_be_refused(body: bytes) -> None:
    decoder = Body(MountRequest)
    try:
        decoder.decode(body)
    except InvalidInput:
        return
    assert decoder.decode(body) == decoder.decode(body)
